#!/usr/bin/env bash
# @hey-api/openapi-ts 0.99.0: it does not start beside typescript 7.0.2, which its peer dependency admits.
#
# The package asks for typescript ">=5.5.3 || >=6.0.0", so npm installs version 7, the newest, without a warning. The
# generator then finds no `NewLineKind` in it, and ends before it reads a document. Beside typescript 5.9.3 the same
# command on the same document works. CONTRIBUTING.md has this generator check our OpenAPI document: install TypeScript 5
# beside it.
#
# Seen on Debian 12, Node.js 20.20: a TypeError while a module of the generator is imported; with TypeScript 5.9.3 a client.
# Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > openapi.json <<'JSON'
{"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": {"/a": {"get": {"responses": {"200":
  {"description": "ok", "content": {"application/json": {"schema": {"type": "string"}}}}}}}}}
JSON
outcome() {
  npm install --silent --no-audit --no-fund --prefix "$folder/$1" @hey-api/openapi-ts@0.99.0 "typescript@$1"
  "$folder/$1/node_modules/.bin/openapi-ts" -i openapi.json -o "$folder/$1/client" > "$folder/$1/output" 2>&1 || true
  if [[ -e $folder/$1/client/index.ts ]]; then
    echo "typescript $1: a client"
  else
    echo "typescript $1: $(grep -o '^TypeError' "$folder/$1/output")"
  fi
}
{ outcome 5.9.3; outcome 7.0.2; } | tee "$folder/outcomes"
[[ $(cat "$folder/outcomes") = $'typescript 5.9.3: a client\ntypescript 7.0.2: TypeError' ]]
