#!/bin/sh
# Build the Debian package: deploy/debian/build.sh PYTHON WHEEL FOLDER
# PYTHON has pip, WHEEL is the mirror's own, FOLDER is where the package goes.
#
# Debian's own aiohttp and pydantic are too old, so what the mirror needs is inside, compiled parts
# for each Python that Debian and Ubuntu have had since 3.11: one package fits their releases.
set -eu
umask 022
python=$1 wheel=$2 out=$3
here=$(dirname "$0")
deploy=$here/..
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

mkdir -p "$root/opt/mirror/lib" "$root/DEBIAN"
for version in ${PYTHONS:-3.11 3.12 3.13 3.14}; do
    "$python" -m pip install --disable-pip-version-check --quiet --no-compile \
        --root-user-action ignore --only-binary :all: --python-version "$version" \
        --target "$work/$version" --require-hashes -r "$deploy/../requirements.lock"
    cp -R "$work/$version/." "$root/opt/mirror/lib/"
done
"$python" -m pip install --disable-pip-version-check --quiet --no-compile --no-deps \
    --root-user-action ignore --target "$work/mirror" "$wheel"
cp -R "$work/mirror/." "$root/opt/mirror/lib/"
rm -rf "$root/opt/mirror/lib/bin"
version=$(sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$work/mirror/mirror/__init__.py")

install -D -m 0755 "$deploy/launcher.py" "$root/opt/mirror/bin/mirror"
# Not the first python3 in somebody's PATH: Debian's, which the package depends on.
sed -i '1s|.*|#!/usr/bin/python3 -I|' "$root/opt/mirror/bin/mirror"
install -D -m 0755 "$deploy/mirror.sh" "$root/usr/bin/mirror"
install -D -m 0644 "$deploy/mirror.toml" "$root/etc/mirror/mirror.toml"
install -D -m 0644 "$deploy/mirror.service" "$root/usr/lib/systemd/system/mirror.service"
install -D -m 0644 "$here/copyright" "$root/usr/share/doc/mirror/copyright"
gzip --best --no-name < "$deploy/../CHANGELOG.md" > "$root/usr/share/doc/mirror/changelog.gz"

architecture=$(dpkg --print-architecture)
size=$(du -k -s "$root" | cut -f 1)
sed -e "s/@version@/$version/" -e "s/@architecture@/$architecture/" -e "s/@size@/$size/" \
    "$here/control" > "$root/DEBIAN/control"
install -m 0644 "$here/conffiles" "$root/DEBIAN/conffiles"
install -m 0755 "$here/postinst" "$here/prerm" "$here/postrm" "$root/DEBIAN/"
(cd "$root" && find opt usr etc -type f -exec md5sum {} + > DEBIAN/md5sums)

mkdir -p "$out"
dpkg-deb --root-owner-group -Zzstd --build "$root" "$out/mirror_${version}_$architecture.deb"
