#!/bin/bash
# Builds the images that the tests of this folder need, as archives in bin/images, and loads each into the cluster with the command in
# LOAD, which gets the path of an archive, such as LOAD="kind load image-archive". It downloads no image: etcd is built in the version
# of go.mod, and Redis is the one that this machine has.
set -euo pipefail
cd "$(dirname "$0")/../.."
: "${LOAD:?give the command that loads an image archive into the cluster, as LOAD=\"kind load image-archive\"}"
out=$PWD/bin/images architecture=$(go env GOARCH)
mkdir -p "$out"

# program NAME PACKAGE: build a static program into bin/images.
program() { CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w -buildid=' -o "$out/$1" "$2"; }
# image REPOSITORY VERSION NAME=SOURCE [FLAG...]: build the archive of an image, and load it.
image() {
	local repository=$1 version=$2 source=$3
	shift 3
	(cd tools && go run ./images -o "$out" -architectures "$architecture" -repository "$repository" -version "$version" "$@" "$source")
	$LOAD "$out/${source%%=*}-$architecture.tar"
}

redis=$(command -v redis-server) || { echo "redis-server is not installed" >&2; exit 1; }
libraries=()
while read -r library; do libraries+=(-file "$library:$library"); done < <(ldd "$redis" | grep -o '/[^ ]*')

program etcd go.etcd.io/etcd/server/v3
program load ./e2e/k8s/load
image gcr.io/etcd-development "$(awk '/name: gcr.io\/etcd-development/ {print $NF}' deploy/k8s/overlays/dev/kustomization.yaml | tr -d '}')" "etcd=$out/etcd" -file "$out/etcd:/usr/local/bin/etcd"
image docker.io/library "$(awk '/name: docker.io\/library\/redis/ {print $NF}' deploy/k8s/overlays/dev/kustomization.yaml | tr -d '}')" "redis=$redis" -file "$redis:/usr/local/bin/redis-server" "${libraries[@]}"
for name in coordinator worker kisgrid; do image ghcr.io/kisgrid dev "$name=../cmd/$name"; done
image kisgrid.test dev "load=$out/load"
