"""What a backend is told at start, and every bound it keeps. Data only.

Rule: every queue, cache, frame, batch and retry in the backend has its limit here, and nowhere else.

Source of the documented limits: reference/runtime-and-database.md §4.5, values-and-sync.md §1.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one backend. Sizes in bytes (`_bytes_max`), durations in seconds (`_s`) or milliseconds (`_ms`)."""

    # One query or mutation transaction.
    documents_read_max: int = 32_000
    read_bytes_max: int = 16 * MIB
    read_intervals_max: int = 4_096
    documents_written_max: int = 16_000
    written_bytes_max: int = 16 * MIB
    system_documents_written_max: int = 40_000
    system_written_bytes_max: int = 128 * MIB
    functions_scheduled_max: int = 1_000
    scheduled_args_bytes_max: int = 16 * MIB

    # Queries.
    query_operators_max: int = 256
    page_size_max: int = 32_000
    scan_batch_rows: int = 128
    scan_batch_rows_max: int = 1_024
    scan_turn_rows: int = 1_024  # So many rows are looked at before anything else gets its turn.

    # Text and vector search.
    search_terms_max: int = 16  # Of one query; what is beyond is ignored.
    search_filters_max: int = 8
    search_candidates_max: int = 1_024
    text_fold_rows: int = (
        256  # So many recent texts wait before they are put among the postings, in steps of as many,
    )
    text_fold_rows_max: int = 2_048  # or in larger steps while an index is built.
    vector_results_default: int = 10
    vector_results_max: int = 256
    vector_filters_max: int = 64
    vector_memory_bytes_max: int = (
        256 * MIB
    )  # Of all indexes in memory; a larger one is read from disk each time.
    vector_batch_rows: int = 1_000
    vector_searches_parallel: int = 2

    # Tables and indexes.
    tables_max: int = 10_000
    indexes_per_table_max: int = 64

    # Environment variables.
    environment_name_chars_max: int = 256
    environment_value_bytes_max: int = 8 * 1024
    environment_variables_max: int = 1_000
    environment_bytes_max: int = 512 * 1024

    # Stored files.
    stored_file_bytes_max: int = 16_384 * MIB
    stored_file_type_chars_max: int = 255  # Of its content type.
    upload_url_s: float = 3_600.0
    uploads_at_once_max: int = 1_000
    downloads_at_once_max: int = 4_000
    download_stalled_s: float = 120.0  # How long a client may read nothing of a file it asked for.
    upload_discarded_bytes_max: int = (
        64 * MIB
    )  # Of a refused upload or request; with more to come, the connection is closed.
    file_threads_max: int = 8
    file_write_bytes: int = MIB  # Collected of an upload before a thread writes them.
    file_read_bytes: int = MIB // 4
    files_written_max: int = 1_000  # By one mutation, as the next three.
    file_bytes_written_max: int = 16 * MIB
    files_read_max: int = 1_000
    file_bytes_read_max: int = 16 * MIB
    file_collection_interval_s: float = 10.0
    file_collection_batch: int = 200
    file_collection_backlog_max: int = 100_000  # What is beyond it is found by the next sweep.
    file_deletion_delay_s: float = 60.0  # From the deletion of a file to that of its bytes.
    file_orphan_age_s: float = 3_600.0  # When bytes that no file names are taken for left over.
    file_sweep_interval_s: float = 3_600.0

    # Scheduled functions and crons.
    scheduled_jobs_outstanding_max: int = 1_000_000
    scheduled_mutations_running_max: int = 8
    scheduled_mutations_beside_clients_max: int = 2  # While clients are calling.
    scheduled_quiet_s: float = 0.02  # So long after its last call a client is taken to be calling.
    scheduled_actions_running_max: int = 16
    crons_running_max: int = 16
    jobs_fetch_rows: int = 64  # Due jobs that are known at a time.
    jobs_wait_s_max: float = 60.0  # When nothing is due: the machine's clock may have been set.
    job_retry_s: float = 0.5  # After the first failure of the system; doubled with each further one.
    job_retry_s_max: float = 2 * 3_600.0
    job_unmounted_retry_s: float = 600.0  # Of a component that is not part of the app now.
    cron_retry_s_max: float = 15.0
    job_retention_s: float = 7 * 86_400.0  # Of finished jobs.
    job_sweep_s: float = 10.0
    job_sweep_rows: int = 1_000
    cron_logs_kept_max: int = 5

    # The engine.
    snapshot_age_s: float = 10.0
    pinned_snapshot_s: float = 30.0
    pinned_snapshots_max: int = 16
    idle_views_max: int = 6
    write_log_s: float = 30.0
    write_log_entries_max: int = 1_000_000
    log_retention_s: float = 300.0
    retention_interval_s: float = 1.0
    store_step_rows: int = 2_000
    loop_commit_rows_max: int = 64
    conflicts_before_exclusive: int = 3
    commit_attempts_max: int = 100
    backfill_batch_rows: int = 1_000
    schema_check_batch_rows: int = 1_000
    checkpoint_wal_bytes: int = 16 * MIB
    restart_wal_bytes: int = 128 * MIB
    page_cache_bytes: int = 32 * MIB

    # Functions.
    function_args_bytes_max: int = 16 * MIB
    function_result_bytes_max: int = 16 * MIB
    function_user_time_s: float = 1.0
    nested_calls_max: int = 8
    log_lines_max: int = 256
    log_line_bytes_max: int = 32_768
    query_cache_bytes_max: int = 100 * MIB
    query_time_validity_s: float = 17.0
    function_log_entries_max: int = 5_000
    function_log_bytes_max: int = 32 * MIB
    mutation_attempts_max: int = 100
    conflict_hints_max: int = 4_096
    shape_documents_max: int = 256  # Of a table, the newest: what its inferred shape rests on,
    shape_bytes_max: int = 1 * MIB  # and no more than that of them.
    snapshot_attempts_max: int = 3  # Runs whose snapshot grew too old before they came to an end.
    session_request_retention_s: float = 14 * 86_400.0
    session_request_sweep_s: float = 3_600.0
    session_request_batch_rows: int = 500

    # The Deno children that run functions.
    runner_heap_bytes_max: int = 128 * MIB  # V8's heap of one child: the code, and 64 MiB for executions.
    runner_data_bytes_max: int = (
        1152 * MIB
    )  # Writable memory of a child; it reserves half of it at its start (Linux).
    runner_resident_bytes_max: int = 768 * MIB
    runner_recycle_bytes: int = 96 * MIB
    runner_calls_per_child_max: int = 64  # At once.
    runner_calls_per_child_life: int = 200_000
    runner_calls_waiting_max: int = 10_000
    runner_bundles_per_child_max: int = 8
    runner_environments_per_child_max: int = 16
    runner_early_writes_max: int = 16  # Settled before they are sent, in one execution; 0: none.
    runner_frame_bytes_max: int = 512 * MIB
    runner_restarts_max: int = 3
    runner_suspects_max: int = 2  # Run alone at once, after their child died.
    runner_open_realms_max: int = 2
    runner_open_realm_functions_max: int = 1_000
    runner_cpu_lease_s: float = 60.0
    runner_start_s: float = 30.0
    runner_start_attempts_max: int = 5
    runner_stop_s: float = 2.0

    # Who is calling: tokens, and what identity providers publish.
    auth_token_bytes_max: int = 64 * 1024
    auth_leeway_s: float = 5.0
    auth_fetch_s: float = 10.0
    auth_redirects_max: int = 5
    auth_document_bytes_max: int = 1 * MIB
    auth_documents_max: int = 256
    auth_keys_max: int = 256  # Of one provider.
    auth_document_s: float = 300.0  # So long a document is used that does not say how long it may be,
    auth_document_s_max: float = 86_400.0  # and so long at most,
    auth_stale_s: float = 3_600.0  # and so much longer while its provider cannot be reached.
    auth_refetch_s: float = 10.0  # Between two fetches because of a key id that is not known.
    auth_retry_s: float = 1.0  # After a fetch that failed.
    signed_token_s_max: float = 3_600.0
    signed_claims_bytes_max: int = 16 * 1024
    dev_token_s_max: float = 30 * 86_400.0

    # Actions.
    http_request_bytes_max: int = 20 * MIB
    http_response_bytes_max: int = 20 * MIB
    action_time_s: float = 1_800.0  # The wall clock; "use node" actions have node_action_time_s.
    node_action_time_s: float = 600.0
    actions_running_max: int = 64  # The rest wait; actions that actions run do not count.
    http_actions_running_max: int = (
        64  # Beside them, so that an action may fetch an HTTP action of its own app.
    )
    actions_waiting_max: int = 1_000
    actions_wait_s: float = 10.0  # For a place, also of "use node" actions; then `TooManyConcurrentRequests`.
    nested_actions_running_max: int = 512
    action_operations_running_max: int = 8  # Of one action at once; the rest wait.
    action_operations_max: int = 16_384  # Under way and waiting, of one action; the next is an error.
    node_operations_max: int = 1_000  # The same in "use node".
    action_timers_max: int = 10_000
    action_stream_window_bytes: int = 256 * 1024
    action_stream_chunk_bytes: int = 64 * 1024
    action_children_max: int = 4
    actions_per_child_max: int = 16
    action_child_life_calls: int = 20_000
    action_child_idle_s: float = 600.0
    action_turn_s: float = 10.0  # How long one may compute without a pause while others share its process.
    action_heap_bytes_max: int = 512 * MIB  # Of one child, which many actions share.
    action_data_bytes_max: int = 2048 * MIB
    action_resident_bytes_max: int = 1024 * MIB
    action_recycle_bytes: int = 256 * MIB
    runner_notes_bytes_max: int = 1 * MIB  # On a child's standard error (js/action_state.js).

    # "use node" actions, which have processes of their own.
    node_args_bytes_max: int = 5 * MIB
    node_actions_running_max: int = 64  # The rest wait; actions that actions run do not count.
    node_children_max: int = 8  # As long as there are fewer, every action has a process to itself.
    node_actions_per_child_max: int = 16
    node_child_life_calls: int = 1_000
    node_child_idle_s: float = 300.0
    node_old_child_idle_s: float = 10.0  # Of other code or another environment than was used last.
    node_heap_bytes_max: int = 512 * MIB
    node_recycle_bytes: int = 256 * MIB
    node_analyze_s: float = 30.0  # To load one module at a push.
    node_code_folders_max: int = 16  # Of past pushes, beside those in use.
    node_package_sets_max: int = 4
    node_install_s: float = 300.0

    # Pushes and administration.
    user_modules_max: int = 4_096
    components_max: int = 500  # Instances, however deep.
    module_bytes_max: int = 230_000_000  # Of all modules of an app, with their source maps.
    schema_wait_s: float = 60.0
    unfinished_push_s: float = 3_600.0  # How long the texts of a push that never finishes are kept.
    log_poll_s: float = 60.0

    # Imports and exports.
    import_parts_max: int = 10_000
    import_part_bytes_max: int = 1_024 * MIB  # A part is written to disk as it comes, never held.
    import_uploads_max: int = 64  # Begun and not finished.
    import_upload_s: float = 86_400.0  # How long an upload that never finishes is kept.
    import_expiry_s: float = 7 * 86_400.0  # How long an import waits for its confirmation.
    import_kept_s: float = 30 * 86_400.0  # How long the row of one that has ended is kept.
    imports_running_max: int = 2  # The rest wait.
    import_in_thread_bytes_max: int = 2 * MIB  # Larger ones, and all ZIPs, are read by their own process,
    import_in_thread_rows_max: int = 10_000  # and those that may have more rows.
    import_block_bytes: int = 256 * 1024
    import_line_bytes_max: int = 24 * MIB
    import_run_rows: int = 20_000
    import_run_bytes: int = 8 * MIB
    import_tables_max: int = 10_000  # In a ZIP.
    import_zip_entries_max: int = 200_000
    import_process_bytes_max: int = 1_024 * MIB
    import_expanded_bytes_max: int = 1 << 40  # What a ZIP may unpack to.
    import_step_s: float = 0.02  # How long the importer may keep others from writing.
    import_step_rows: int = 1_000
    import_step_rows_max: int = 20_000
    import_append_rows: int = 2_000  # An append adds so many documents in one commit,
    import_append_bytes: int = 4 * MIB
    import_append_whole_rows: int = 8_000  # or all of them, when they are no more than this.
    import_disk_reserve_bytes: int = 128 * MIB  # Stays free: for others' commits, and for undoing the import.
    import_progress_s: float = 0.5
    import_files_per_commit: int = 2_000  # Records of stored files.
    exports_kept_s: float = 14 * 86_400.0
    exports_kept_max: int = 8
    export_time_s: float = 3_600.0  # How long one export may hold its snapshot.
    export_streams_max: int = 4
    export_chunk_bytes: int = 256 * 1024
    export_batch_rows: int = 2_000

    # Clients.
    socket_mutations_pending_max: int = 1_000  # With so many waiting, nothing more is read from this client.
    socket_actions_in_flight_max: int = 1_000
    socket_queries_parallel_max: int = 20
    socket_batch: int = 100  # So many sockets are updated before anything else gets its turn.
    socket_transitions_unsent_max: int = 2
    socket_queries_max: int = 100_000
    socket_modifications_waiting_max: int = 200_000  # Of the query set, while the client does not read.
    socket_messages_waiting_max: int = 2_000  # While a token is checked.
    socket_messages_unsent_max: int = 1_000  # Above it, nothing more is read from this client.
    socket_mutation_s: float = 60.0
    socket_query_retry_s: float = 3.0
    socket_message_bytes_max: int = 64 * MIB
    transition_chunk_bytes: int = 5_000_000
    socket_ping_s: float = 5.0
    socket_silence_s: float = 120.0
    socket_application_ping_s: float = 15.0
    request_body_bytes_max: int = 16 * MIB + 2_000
    echo_body_bytes_max: int = 128 * MIB
    push_body_bytes_max: int = 200_000_000
    request_time_s: float = 300.0
    keep_alive_s: int = 65
    health_s: float = 5.0  # How long /api/health waits for the disk.
    stop_s: float = 0.3  # How long requests may go on once the backend is stopping.


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """Where one backend keeps its data, what it is called, and where it listens."""

    data_dir: Path
    instance_name: str
    instance_secret: str  # 64 hexadecimal digits.
    host: str = "127.0.0.1"
    port: int = 3210
    site_port: int = 3211
    origin: str | None = None  # What clients call the API's address, where a proxy stands before it.
    site_origin: str | None = None  # Likewise of HTTP actions.
    one_port: bool = False  # HTTP actions on `port`, too; `site_port` is not used.
    log_functions: bool = False  # Every finished call goes to the server's log.
    log_format: Literal["text", "json"] = "text"
    redact_logs: bool = False
    dev_issuer: bool = False  # Whether tokens of the built-in issuer for development are believed and issued.
    deno_children: int = 2
    node_modules: Path | None = None
    """Of the project, for "use node" actions that import external packages; without it they are installed."""
    native_packages: bool = False
    """Whether external packages may load native code, which nothing confines."""
    limits: Limits = field(default_factory=Limits)
