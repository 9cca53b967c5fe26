#!/bin/bash
# Compares the exported names of the stable packages in docs/stability.md with those at the last tag before this commit. It fails where a
# program that compiled then may not compile now. With BREAKS=allowed it prints that and does not fail. The first argument is the
# apidiff to run, in the form that go run takes.
set -euo pipefail
cd "$(dirname "$0")/.."
apidiff=${1:?name the apidiff to run, as go run takes it: golang.org/x/exp/cmd/apidiff@VERSION}

tag=$(git describe --tags --abbrev=0 --match 'v[0-9]*' HEAD^ 2>/dev/null) || {
	echo "api: there is no tag before this commit, so there is no release whose API could be kept: nothing was compared"
	exit 0
}
# The packages that were stable at the tag count: to call one of them unstable now breaks a promise, too.
page=$(git show "$tag:docs/stability.md" 2>/dev/null) || page=$(<docs/stability.md)
mapfile -t stable < <(sed -n 's/^| `\(pkg\/[a-z\/]*\)` | stable |.*/\1/p' <<<"$page")
((${#stable[@]})) || { echo "api: docs/stability.md has no line for a stable package, such as | \`pkg/client\` | stable |" >&2; exit 1; }

old=$(mktemp -d)
trap 'git worktree remove --force "$old/tree" 2>/dev/null; rm -rf "$old"' EXIT
git worktree add --quiet --detach "$old/tree" "$tag"
broken=
for package in "${stable[@]}"; do
	if ! [[ -d $old/tree/$package ]]; then
		echo "api: $package is new since $tag"
		continue
	fi
	(cd "$old/tree" && go run "$apidiff" -w "$old/export" "github.com/kisgrid/kisgrid/$package")
	if ! [[ -d $package ]]; then
		difference="- the package is no more"
	elif ! grep -q "^| \`$package\` | stable |" docs/stability.md; then
		difference="- docs/stability.md calls it stable no more"
	else
		difference=$(go run "$apidiff" -incompatible "$old/export" "github.com/kisgrid/kisgrid/$package")
	fi
	if [[ $difference ]]; then
		broken+=" $package"
		printf 'api: %s breaks programs that were written for %s:\n%s\n' "$package" "$tag" "$difference"
	fi
done
[[ $broken ]] || { echo "api: ${#stable[@]} stable packages have all that they had in $tag"; exit 0; }
[[ ${BREAKS:-} == allowed ]] && { echo "api: allowed, as BREAKS says; CHANGELOG.md has to tell of it"; exit 0; }
echo "api: keep the old names beside the new ones, or see docs/stability.md for when BREAKS=allowed is right" >&2
exit 1
