# How images are built here: by buildah, from scratch, with a store of their
# own that is thrown away. Not a program: sourced by `build` and `image`.
# shellcheck shell=bash

# build_image NAME:TAG CONTEXT OUT.tar [OPTION OF buildah bud]...
build_image() {
  local name=$1 context=$2 out=$3 store
  shift 3
  command -v buildah >/dev/null || die "no buildah: run e2e/kube/build first"
  store=$(mktemp -d)
  local -a buildah=(buildah --storage-driver vfs --root "$store/root" --runroot "$store/run")
  if "${buildah[@]}" bud --isolation chroot --timestamp 0 --quiet --tag "$name" "$@" "$context" >"$store/log" 2>&1 &&
    "${buildah[@]}" push --quiet "$name" "docker-archive:$store/image.tar:$name" >>"$store/log" 2>&1; then
    mkdir -p "$(dirname "$out")"
    mv "$store/image.tar" "$out"
    rm -rf "$store"
  else
    cat "$store/log" >&2
    rm -rf "$store"
    die "the image $name could not be built"
  fi
}
