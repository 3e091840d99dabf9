#!/bin/sh
# Builds the Debian package: target/debian/pefo_VERSION_ARCH.deb, by dpkg-deb alone.
#
# It guarantees: the same commit gives the same bytes (times are the commit's, or SOURCE_DATE_EPOCH);
# installing starts and enables nothing, and purging leaves the keys below /var/lib/pefo.
#
#   PEFO_BINARY   the program, where it is built already; else it is built for release
#   PEFO_PAGES    the generator of man pages and completions (tests/documentation), likewise
#   PEFO_DEB_DIR  where the package goes; target/debian
#   PEFO_DEB_MAINTAINER, PEFO_DEB_COMPRESSION: who packages it; dpkg-deb's options, -Zxz
set -eu

cd "$(dirname "$0")/.."
CARGO=${CARGO:-cargo}
out=${PEFO_DEB_DIR:-target/debian}

if [ -z "${PEFO_BINARY:-}" ]; then
    $CARGO build --release --locked -p pefo-cli
    PEFO_BINARY=target/release/pefo
fi
if [ -z "${PEFO_PAGES:-}" ]; then
    $CARGO build --locked -p pefo-documentation
    PEFO_PAGES=target/debug/pages
fi
: "${SOURCE_DATE_EPOCH:=$(git log -1 --format=%ct 2>/dev/null || date +%s)}"
export SOURCE_DATE_EPOCH
umask 022
export LC_ALL=C

version=$("$PEFO_BINARY" --version | cut -d' ' -f2)
arch=$(dpkg --print-architecture)
maintainer=${PEFO_DEB_MAINTAINER:-The pefo developers <pefo@pefo.invalid>}
root=$out/pefo_${version}_${arch}
rm -rf "$root" "$root.deb"
doc=$root/usr/share/doc/pefo
mkdir -p "$root/DEBIAN" "$root/etc/pefo" "$root/usr/bin" "$doc/docs" "$doc/examples" \
    "$root/usr/share/man/man1" "$root/usr/share/man/man5" "$root/usr/share/lintian/overrides"

# The program.
install -m 755 "$PEFO_BINARY" "$root/usr/bin/pefo"
strip --strip-unneeded --remove-section=.comment --remove-section=.note "$root/usr/bin/pefo"

# Man pages and completions.
pages=$out/pages
rm -rf "$pages"
"$PEFO_PAGES" man "$pages/man"
"$PEFO_PAGES" completions "$pages/completions"
for page in "$pages"/man/*.[15]; do
    section=${page##*.}
    gzip -9 -n -c "$page" >"$root/usr/share/man/man$section/${page##*/}.gz"
done
install -D -m 644 "$pages/completions/pefo.bash" "$root/usr/share/bash-completion/completions/pefo"
install -D -m 644 "$pages/completions/_pefo" "$root/usr/share/zsh/vendor-completions/_pefo"
install -D -m 644 "$pages/completions/pefo.fish" "$root/usr/share/fish/vendor_completions.d/pefo.fish"
rm -rf "$pages"

# Documents.
install -m 644 README.md "$doc/README.md"
install -m 644 docs/*.md "$doc/docs/"
"$PEFO_BINARY" config example >"$doc/examples/pefo.toml"
gzip -9 -n -c CHANGELOG.md >"$doc/CHANGELOG.md.gz"
gzip -9 -n >"$doc/changelog.gz" <<CHANGELOG
pefo ($version) unstable; urgency=medium

  * Built from the project's own tree; CHANGELOG.md.gz tells what changed.

 -- $maintainer  $(date --utc --rfc-email --date="@$SOURCE_DATE_EPOCH")
CHANGELOG
install -m 644 scripts/debian/copyright "$doc/copyright"
install -m 644 scripts/debian/lintian-overrides "$root/usr/share/lintian/overrides/pefo"
install -m 755 scripts/debian/postinst scripts/debian/postrm "$root/DEBIAN/"

# What it is linked to: the packages of the shared libraries, as dpkg knows them. libc6 carries the
# version that the newest of the used symbols came with.
libraries=$(ldd "$root/usr/bin/pefo" | awk '$3 ~ /^\// { print $3 }')
glibc=$(objdump -T "$root/usr/bin/pefo" | grep -o 'GLIBC_[0-9.]*' | sort -Vu | tail -1 | cut -d_ -f2)
depends=""
for library in $libraries; do
    real=$(readlink -f "$library")
    package=$(dpkg-query -S "$real" 2>/dev/null || dpkg-query -S "${real#/usr}" 2>/dev/null ||
        dpkg-query -S "*/${real##*/}" | head -1)
    package=${package%%:*}
    case $package in
    libc6) package="libc6 (>= $glibc)" ;;
    libssl*) package="$package (>= 3.0.0)" ;;
    esac
    case ", $depends, " in
    *", $package, "*) ;;
    *) depends="${depends:+$depends, }$package" ;;
    esac
done
[ -n "$depends" ] || { echo "build-deb: the program's libraries are not known" >&2; exit 1; }

size=$(du -k -s --apparent-size --exclude=DEBIAN "$root" | cut -f1)
cat >"$root/DEBIAN/control" <<CONTROL
Package: pefo
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $size
Depends: $depends
Recommends: openssh-server
Suggests: postgresql-client, r10k
Section: admin
Priority: optional
Description: warm spare for a Puppet master
 pefo keeps a second Puppet master (Puppet Enterprise, open-source Puppet or
 OpenVox) ready to take over from the first: certificates and revocations,
 classification, the RBAC database, all over ssh, nothing of Puppet modified.
 .
 A revocation is never rolled back, a serial never issued twice, a bad dump
 never reaches the live database, and the account that receives files can
 neither run a shell nor read a secret nor inject anything.
CONTROL

(cd "$root" && find usr -type f -print | sort | xargs md5sum) >"$root/DEBIAN/md5sums"
find "$root" -depth -print | while IFS= read -r path; do
    touch --no-dereference --date="@$SOURCE_DATE_EPOCH" "$path"
done
# shellcheck disable=SC2086 # the options are meant to be split
dpkg-deb --root-owner-group ${PEFO_DEB_COMPRESSION:--Zxz} --build "$root" "$root.deb" >/dev/null
rm -rf "$root"
echo "$root.deb"
