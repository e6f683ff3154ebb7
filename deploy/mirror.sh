#!/bin/sh
# The command `mirror` of an installation in /opt/mirror, for the PATH: it reads the
# machine's configuration, as the daemon does, unless a flag or a variable names another one.
if [ -z "${MIRROR_CONFIG+set}" ] && [ -e /etc/mirror/mirror.toml ]; then
    export MIRROR_CONFIG=/etc/mirror/mirror.toml
fi
exec /opt/mirror/bin/mirror "$@"
