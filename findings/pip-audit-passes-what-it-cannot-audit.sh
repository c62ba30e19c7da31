#!/usr/bin/env bash
# pip-audit 2.10.1: a package that it cannot look up passes the audit, for example any version with a local part.
#
# The audit asks the index about each release. It has no release `2.10+cpu` (builds for other hardware and patched wheels
# have such versions), and a private index may have no such answers at all. One would expect that the public part counts, or
# that the audit fails. It prints "No known vulnerabilities found", lists the package as skipped, and exits 0. `--strict`
# makes it exit 1; deploy/audit.py passes that option.
#
# Seen on Debian 12, Python 3.11, for jinja2 2.10+cpu, of which the public 2.10 has advisories:
#   exit 0, "No known vulnerabilities found", skipped: 1
#   with --strict: exit 1
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check pip-audit==2.10.1
cd "$folder"
echo 'jinja2==2.10+cpu' > requirements.txt
audit() {
  env/bin/pip-audit --requirement requirements.txt --no-deps --disable-pip --progress-spinner off "$@" > report 2>&1
}
{
  status=0
  audit || status=$?
  verdict=$(grep -o '^No known vulnerabilities found' report)
  echo "exit $status, \"$verdict\", skipped: $(grep -c '^jinja2 .*could not be audited' report)"
  status=0
  audit --strict || status=$?
  echo "with --strict: exit $status"
} | tee output
diff output - <<'EXPECTED'
exit 0, "No known vulnerabilities found", skipped: 1
with --strict: exit 1
EXPECTED
