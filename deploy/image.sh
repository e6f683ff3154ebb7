#!/bin/sh
# Build the image without an engine and without a registry: deploy/image.sh PYTHON FOLDER
# The base is made of Debian's packages (mmdebstrap), the rest by the Dockerfile (buildah), as root.
# PYTHON has pip; the image goes into FOLDER, for `docker load` and `podman load`.
set -eu
umask 022
python=$1 out=$2
cd "$(dirname "$0")/.."
work=$(mktemp -d)
# Storage of its own: nothing is left in this machine's.
cat > "$work/storage.conf" <<STORAGE
[storage]
driver = "vfs"
graphroot = "$work/root"
runroot = "$work/run"
STORAGE
export CONTAINERS_STORAGE_CONF="$work/storage.conf"
trap 'buildah rm --all >/dev/null 2>&1; rm -rf "$work"' EXIT

version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' mirror/__init__.py)

echo "the base, from Debian's packages"
mmdebstrap --quiet --variant=essential --include=ca-certificates,python3 \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    "${SUITE:-trixie}" "$work/base.tar"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/base.tar" / >/dev/null
buildah commit --quiet "$base" localhost/mirror-base >/dev/null
rm "$work/base.tar"

# What the packages are installed with is in the stage that nobody ships.
"$python" -m pip install --disable-pip-version-check --quiet --no-compile \
    --root-user-action ignore --target "$work/pip" pip
buildah add --quiet "$base" "$work/pip" /usr/lib/python3/dist-packages >/dev/null
buildah commit --quiet --rm "$base" localhost/mirror-build >/dev/null

echo "the image"
# pip finds the package registry as it does here.
for file in /etc/pip.conf /etc/ssl/certs; do
    if [ -e "$file" ]; then set -- "$@" --volume "$file:$file:ro"; fi
done
shift 2
buildah bud --quiet --pull-never --isolation chroot --layers=false --format docker \
    --build-arg BASE=localhost/mirror-base --build-arg BUILD=localhost/mirror-build \
    "$@" --file deploy/Dockerfile --tag "mirror:$version" . >/dev/null
mkdir -p "$out"
rm -f "$out/mirror-$version-image.tar"
buildah push --quiet "mirror:$version" "docker-archive:$out/mirror-$version-image.tar:mirror:$version"
