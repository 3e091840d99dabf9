# Boots a machine: $1 an empty directory, $2 a file for the process id, $3 the host's name, $4 its /etc/hosts.
# Runs as the first process of new mount, uts, ipc, pid and cgroup namespaces; what it mounts goes with them.
set -eu
mount --make-rprivate /
# Still the outer one's: it tells the id by which this process is known there.
read -r pid _ </proc/self/stat
mount -t tmpfs -o mode=0755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
root=$1/root

for path in run tmp dev; do
    mount -t tmpfs -o mode=0755 tmpfs "$root/$path"
done
chmod 1777 "$root/tmp"
for device in null zero full random urandom tty; do
    : >"$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
: >"$root/dev/console"
mount --bind /dev/null "$root/dev/console"
mount -t proc proc "$root/proc"
# The kernel is everybody's.
mount --bind "$root/proc/sys" "$root/proc/sys"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys" 2>/dev/null || mount --rbind /sys "$root/sys"
mount -t tmpfs -o mode=0755 tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"

# As it comes from the installer: no service of this machine's is enabled, and nobody's keys are its own.
rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/ssh/"ssh_host_* "$root/etc/machine-id" \
    "$root/var/lib/systemd/timers" "$root/etc/pefo" "$root/var/lib/pefo" "$root/opt/pe_failover" \
    "$root/var/log/journal"
: >"$root/etc/machine-id"
printf '%s\n' "$3" >"$root/etc/hostname"
printf '127.0.0.1 localhost\n%s\n' "$4" >"$root/etc/hosts"
# What would load modules, set the kernel or wait for hardware.
for unit in systemd-sysctl systemd-binfmt systemd-modules-load systemd-udevd systemd-udev-trigger \
    systemd-remount-fs systemd-timesyncd systemd-random-seed systemd-pstore console-getty getty@tty1; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit.service"
done

printf '%s\n' "$pid" >"$2.new"
mv "$2.new" "$2"
cd "$root"
exec chroot . env -i container=pefo-testkit PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --log-target=journal --unit=multi-user.target
