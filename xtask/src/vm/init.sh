#!/bin/busybox sh
# The first program in a guest: mounts the host's files read-only, lays memory over them,
# and runs the script that the kernel's command line names, its output on the port that
# stands there, too.
bb=/bin/busybox
$bb mount -t proc proc /proc
$bb mount -t sysfs sys /sys
$bb mount -t devtmpfs dev /dev
for module in $($bb cat /modules/order); do
    $bb insmod /modules/$module || echo "the module $module was refused"
done
for word in $($bb cat /proc/cmdline); do
    case $word in
        meshtap.script=*) script=${word#*=} ;;
        meshtap.modules=*) modules=${word#*=} ;;
        meshtap.programs=*) programs=${word#*=} ;;
        meshtap.output=*) output=/dev/${word#*=} ;;
        meshtap.init=*) init=${word#*=} ;;
    esac
done
$bb mount -t virtiofs -o ro host /host || echo "the host's files could not be mounted"
$bb mount -t tmpfs -o size=75% over /over
$bb mkdir /over/upper /over/work
lower=/host
# Of another architecture: its own programs lie over the host's.
if [ -n "$programs" ]; then
    $bb mount -t virtiofs -o ro $programs /programs || echo "its programs could not be mounted"
    lower=/programs:/host
fi
$bb mount -t overlay -o lowerdir=$lower,upperdir=/over/upper,workdir=/over/work root /root ||
    echo "nothing could be laid over the host's files"
$bb mount --move /proc /root/proc
$bb mount --move /sys /root/sys
$bb mount --move /dev /root/dev
$bb mkdir -p /root/dev/pts /root/dev/shm
$bb mount -t devpts -o ptmxmode=666 pts /root/dev/pts
$bb mount -t tmpfs shm /root/dev/shm
$bb mount -t tmpfs run /root/run
release=$($bb uname -r)
$bb mkdir -p /root/lib/modules/$release
$bb mount --bind /host$modules /root/lib/modules/$release
$bb mount -t cgroup2 cgroup /root/sys/fs/cgroup
$bb mount -t bpf bpf /root/sys/fs/bpf
$bb mount -t tracefs trace /root/sys/kernel/tracing
$bb mount -t securityfs security /root/sys/kernel/security
$bb ip link set lo up
$bb hostname guest
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb
$bb mkdir -p /root/run/vm
$bb cp $bb /root/run/vm/busybox
$bb stty -F /root$output raw -echo
if [ -n "$init" ]; then
    # systemd is the first program, and has nothing to do but what the script asks of it.
    units=/root/run/systemd/system
    $bb mkdir -p $units
    $bb cat >$units/vm.service <<END
[Unit]
After=basic.target
[Service]
Type=oneshot
ExecStart=/bin/sh $script
StandardOutput=file:$output
StandardError=file:$output
ExecStopPost=/run/vm/busybox poweroff -f
END
    for unit in systemd-udevd.service systemd-udevd-kernel.socket systemd-udevd-control.socket \
        systemd-udev-trigger.service systemd-udev-settle.service systemd-hwdb-update.service \
        systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service \
        systemd-random-seed.service systemd-timesyncd.service systemd-sysusers.service \
        systemd-journal-flush.service systemd-update-utmp.service systemd-modules-load.service \
        systemd-pcrphase-sysinit.service systemd-boot-system-token.service \
        systemd-remount-fs.service networking.service kmod-static-nodes.service \
        modprobe@.service dev-hugepages.mount dev-mqueue.mount sys-kernel-debug.mount \
        sys-kernel-tracing.mount sys-fs-fuse-connections.mount sys-kernel-config.mount \
        proc-sys-fs-binfmt_misc.automount timers.target; do
        $bb ln -s /dev/null $units/$unit
    done
    # Devices of the host's; and what says that the host is a container.
    $bb chroot /root /run/vm/busybox rm -f /etc/fstab /.dockerenv
    exec $bb switch_root /root $init --unit=vm.service
fi
$bb cat >/root/run/vm/last <<END
cd /
# Nobody asks for it by name: programs open its device, which is there once it is.
modprobe tun || echo "no tun"
/bin/sh $script </dev/null >$output 2>&1
/run/vm/busybox sync
/run/vm/busybox poweroff -f
END
# This process itself changes its root: the kernel looks there for modprobe, too.
exec $bb chroot /root /run/vm/busybox sh /run/vm/last
