#!/bin/sh
# Writes the lock files again, for Linux and Python 3.10 or newer; `./dev lock` runs it.
# Later files keep the versions of the earlier ones, so that all of them install into one environment.
set -eu
cd "$(dirname "$0")"
constraints=''
for name in run build test check bench e2e mlx_lm; do
  # shellcheck disable=SC2086
  "${UV:-uv}" pip compile "$name.in" --output-file "$name.lock" --universal --python-version 3.10 \
    --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --upgrade $constraints
  constraints="$constraints -c $name.lock"
done
"${UV:-uv}" pip compile weights.in --no-deps --output-file weights.lock --universal --python-version 3.10 \
  --generate-hashes --no-emit-index-url --no-emit-find-links --no-annotate --no-header --quiet --upgrade
