#!/bin/sh
# Chromium for the browser tests. Where it cannot be installed the tests skip and say so.
for name in chromium chromium-browser google-chrome; do
    if command -v "$name" >/dev/null 2>&1; then
        exit 0
    fi
done
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium && exit 0
fi
echo "WARNING: Chromium is not installed and could not be; the browser tests will be SKIPPED." >&2
exit 0
