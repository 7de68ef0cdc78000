"""Push and admin bodies as the official CLI sends and expects them."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from cvx.protocol.admin import (
    Completion,
    LogEntry,
    LogLineJson,
    Progress,
    StreamLogsResponse,
    UpdateEnvironmentRequest,
    log_line_text,
    with_text_lines,
)
from cvx.protocol.calls import decode_body, encode_body
from cvx.protocol.push import (
    AnalyzedFunctionJson,
    AnalyzedModuleJson,
    AuthProvider,
    CheckedComponent,
    ComponentDiff,
    ComponentSchemaStatus,
    CronSpecJson,
    DatabaseIndexDescription,
    DefinitionMetadata,
    DiffType,
    EvaluatedDefinition,
    FinishPushRequest,
    FinishPushResponse,
    GetConfigHashesRequest,
    GetConfigHashesResponse,
    IndexDiff,
    NamedCronSpecJson,
    ProjectConfig,
    SchemaChange,
    SchemaComplete,
    SchemaFailed,
    SchemaInProgress,
    SchemaStatus,
    StartPushRequest,
    StartPushResponse,
    UdfConfigJson,
    VectorIndexDescription,
    VisibilityJson,
    WaitForSchemaRequest,
    WeeklySchedule,
)

MODULE = {"path": "messages.js", "source": "export {}", "environment": "isolate"}
START: dict[str, Any] = {
    "adminKey": "k",
    "dryRun": False,
    "functions": "convex/",
    "appDefinition": {
        "definition": None,
        "dependencies": [],
        "schema": {**MODULE, "path": "schema.js", "sourceMap": "{}"},
        "changedModules": [MODULE],
        "unchangedModuleHashes": [{"path": "a.js", "environment": "node", "sha256": "00"}],
        "udfServerVersion": "1.48.0",
    },
    "componentDefinitions": [
        {
            "definitionPath": "../mycomp",
            "definition": {**MODULE, "path": "convex.config.js"},
            "dependencies": [],
            "schema": None,
            "functions": [MODULE],
            "udfServerVersion": "1.48.0",
        }
    ],
    "nodeDependencies": [{"name": "sharp", "version": "0.33.1"}],
    "somethingNewer": {"x": 1},
}


def as_json(body: Any) -> Any:
    return json.loads(encode_body(body))


def test_start_push_as_the_cli_sends_it() -> None:
    request = decode_body(json.dumps(START).encode(), StartPushRequest)
    assert [module.path for module in request.app_definition.modules] == ["messages.js"]
    assert request.app_definition.unchanged_module_hashes[0].environment == "node"
    assert request.app_definition.schema is not None and request.app_definition.schema.source_map == "{}"
    assert request.component_definitions[0].functions[0].source_map is None
    assert (request.node_version, request.for_codegen, request.node_dependencies[0].name) == (
        None,
        False,
        "sharp",
    )


def test_old_clis_call_the_modules_functions() -> None:
    app = {**START["appDefinition"], "functions": [MODULE]}
    del app["changedModules"]
    request = decode_body(json.dumps({**START, "appDefinition": app}).encode(), StartPushRequest)
    assert [module.path for module in request.app_definition.modules] == ["messages.js"]


def response() -> StartPushResponse:
    cron = CronSpecJson(
        udf_path="crons:x",
        udf_args={"$bytes": "W10="},
        cron_schedule=WeeklySchedule(day_of_week=0, hour=5, minute=30),
    )
    module = AnalyzedModuleJson(
        functions=[
            AnalyzedFunctionJson(name="list", udf_type="Query", visibility=VisibilityJson(kind="public"))
        ],
        cron_specs=[NamedCronSpecJson(identifier="job", spec=cron)],
    )
    definition = EvaluatedDefinition(
        definition=DefinitionMetadata(
            path="", definition_type={"type": "app"}, exports={"type": "branch", "branch": []}
        ),
        functions={"messages.js": module},
        udf_config=UdfConfigJson(
            server_version="1.48.0",
            import_phase_rng_seed={"$bytes": ""},
            import_phase_unix_timestamp={"$integer": ""},
        ),
    )
    indexes = IndexDiff(
        added_indexes=[DatabaseIndexDescription(name="messages.by_a", fields=["a", "_creationTime"])],
        disabled_indexes=[VectorIndexDescription(name="m.v", dimensions=3, vector_field="e", staged=True)],
    )
    return StartPushResponse(
        environment_variables={"FOO": "bar"},
        app_auth=[
            AuthProvider(application_id="convex", domain="https://x"),
            AuthProvider(type="customJwt", application_id=None, issuer="i", jwks="j", algorithm="ES256"),
        ],
        analysis={"": definition},
        app=CheckedComponent(
            definition_path="",
            component_path="",
            child_components={"c": CheckedComponent(definition_path="../c", component_path="c")},
        ),
        schema_change=SchemaChange(schema_ids={"": "id", "c": None}, index_diffs={"": indexes}),
        component_definition_packages={"": {"opaque": [1]}},
    )


def test_start_push_answer_has_the_keys_that_clients_expect() -> None:
    body = as_json(response())
    assert sorted(body) == [
        "analysis", "app", "appAuth", "componentDefinitionPackages", "environmentVariables", "externalDepsId",
        "schemaChange",
    ]  # fmt: skip
    assert body["appAuth"] == [
        {"applicationID": "convex", "domain": "https://x"},
        {"applicationID": None, "type": "customJwt", "issuer": "i", "jwks": "j", "algorithm": "ES256"},
    ]
    assert body["schemaChange"]["indexDiffs"][""] == {
        "added_indexes": [
            {"type": "database", "name": "messages.by_a", "staged": False, "fields": ["a", "_creationTime"]}
        ],
        "removed_indexes": [],
        "enabled_indexes": [],
        "disabled_indexes": [
            {
                "type": "vector",
                "name": "m.v",
                "staged": True,
                "dimensions": 3,
                "vectorField": "e",
                "filterFields": [],
            }
        ],
    }
    module = body["analysis"][""]["functions"]["messages.js"]
    assert module["functions"] == [
        {
            "name": "list",
            "udfType": "Query",
            "visibility": {"kind": "public"},
            "args": None,
            "returns": None,
            "pos": None,
        }
    ]
    assert module["cronSpecs"][0]["spec"]["cronSchedule"] == {
        "type": "weekly",
        "dayOfWeek": 0,
        "hourUTC": 5,
        "minuteUTC": 30,
    }
    assert body["app"]["childComponents"]["c"]["httpRoutes"] == {"httpModuleRoutes": None, "mounts": []}


def test_the_answer_comes_back_inside_finish_push() -> None:
    echoed = as_json(response())
    shuffled = dict(reversed(echoed.items())) | {"unknown": True}
    request = decode_body(
        json.dumps({"adminKey": "k", "startPush": shuffled, "dryRun": False, "message": None}).encode(),
        FinishPushRequest,
    )
    assert request.start_push == response()


def test_wait_for_schema() -> None:
    change = as_json(response())["schemaChange"]
    request = decode_body(
        json.dumps({"adminKey": "k", "schemaChange": change, "timeoutMs": 10000, "dryRun": False}).encode(),
        WaitForSchemaRequest,
    )
    assert request.schema_change == response().schema_change and request.timeout_ms == 10_000
    status = ComponentSchemaStatus(schema_validation_complete=False, indexes_complete=0, indexes_total=1)
    assert as_json(SchemaInProgress(components={"": status})) == {
        "type": "inProgress",
        "components": {"": {"schemaValidationComplete": False, "indexesComplete": 0, "indexesTotal": 1}},
    }
    assert as_json(SchemaComplete()) == {"type": "complete"}
    failed = SchemaFailed(error="e", component_path="")
    assert as_json(failed) == {"type": "failed", "error": "e", "componentPath": "", "tableName": None}
    assert msgspec.json.decode(encode_body(failed), type=SchemaStatus) == failed


def test_finish_push_answer() -> None:
    diff = ComponentDiff(diff_type=DiffType(type="create"))
    assert as_json(FinishPushResponse(component_diffs={"": diff})) == {
        "authDiff": {"added": [], "removed": []},
        "definitionDiffs": {},
        "componentDiffs": {
            "": {
                "diffType": {"type": "create"},
                "moduleDiff": {"added": [], "removed": []},
                "udfConfigDiff": None,
                "cronDiff": {"added": [], "updated": [], "deleted": []},
                "indexDiff": {
                    "added_indexes": [],
                    "removed_indexes": [],
                    "enabled_indexes": [],
                    "disabled_indexes": [],
                },
                "schemaDiff": None,
            }
        },
    }


def test_config_hashes() -> None:
    assert decode_body(b'{"version":"1.48.0","adminKey":"k"}', GetConfigHashesRequest).admin_key == "k"
    answer = GetConfigHashesResponse(config=ProjectConfig(functions="convex/"), module_hashes=[])
    assert as_json(answer) == {
        "config": {"functions": "convex/"},
        "moduleHashes": [],
        "udfServerVersion": None,
        "nodeVersion": None,
    }


def test_environment_changes() -> None:
    raw = b'{"changes":[{"name":"A","value":"x"},{"name":"B","value":null}]}'
    changes = decode_body(raw, UpdateEnvironmentRequest).changes
    assert [(change.name, change.value) for change in changes] == [("A", "x"), ("B", None)]


def test_log_entries() -> None:
    line = LogLineJson(messages=["'hi'", "1"], level="LOG", timestamp=5.0)
    finished = Completion(
        udf_type="Query", identifier="m:list", timestamp=1.5, execution_time=0.25, request_id="r", execution_id="e",
        caller="Tester", log_lines=[line],
    )  # fmt: skip
    body = as_json(finished)
    assert (body["kind"], body["udfType"], body["success"], body["environment"]) == (
        "Completion",
        "Query",
        None,
        "isolate",
    )
    assert body["logLines"] == [
        {"messages": ["'hi'", "1"], "level": "LOG", "timestamp": 5.0, "isTruncated": False}
    ]
    assert as_json(with_text_lines(finished))["logLines"] == ["[LOG] 'hi' 1"]
    running = Progress(udf_type="Action", identifier="m:act", timestamp=1.0, request_id="r", execution_id="e")
    for entry in (finished, running):
        assert encode_body(msgspec.json.decode(encode_body(entry), type=LogEntry)) == encode_body(entry)
    assert as_json(StreamLogsResponse(entries=[running], new_cursor=5.0))["newCursor"] == 5.0
    assert log_line_text("WARN", ["x"], True).startswith("[WARN] x")
