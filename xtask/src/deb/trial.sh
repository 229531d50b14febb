# Installs and purges a package over this machine's own files, as one who administers it would,
# without a change to them: what is written goes into memory that lies over them, and is gone with
# this shell's mount namespace. Prints what is there more, or is missing, after either.
set -e
folder=$1 package=$2
mount -t tmpfs -o mode=755 trial "$folder"
mkdir "$folder/upper" "$folder/work" "$folder/root"
mount -t overlay -o "lowerdir=/,upperdir=$folder/upper,workdir=$folder/work" trial "$folder/root"
root=$folder/root
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
# Nobody here may start a service.
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cp "$package" "$root/package.deb"
export DEBIAN_FRONTEND=noninteractive
changed() {
    (cd "$folder/upper" && find . -mindepth 1) | sed 's,^\./,,' | while read -r path; do
        case $path in
            # Of this script, and what dpkg remembers of everything that it did.
            package.deb | usr/sbin/policy-rc.d | var/log/dpkg.log | var/log/alternatives.log) ;;
            var/lib/dpkg/info/meshtap.*) echo "$1 $path" ;;
            var/lib/dpkg | var/lib/dpkg/*) ;;
            # A folder is there as soon as something in it is.
            *) [ -d "$folder/upper/$path" ] && [ -d "/$path" ] || echo "$1 $path" ;;
        esac
    done
}
chroot "$root" dpkg -i /package.deb >&2
changed installed
chroot "$root" meshtap --version | sed 's/^/version /'
# What an administrator puts there is configuration, too.
echo "# mine" >"$root/etc/meshtap/mine.yaml"
chroot "$root" dpkg --purge meshtap >&2
changed left
echo done
