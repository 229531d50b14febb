# Starts the unit in a guest whose first program is systemd, makes calls, and prints what is in
# force and what the agent counted: `word value` a line.
agent=$1 unit=$2
say() { echo "@@unit $*"; }
install -m 755 "$agent" /usr/local/bin/meshtap
install -m 644 "$unit" /run/systemd/system/meshtap.service
systemctl daemon-reload
say started "$(systemctl start meshtap.service && echo yes || echo no)"
ready=no
for _ in $(seq 1200); do
    if [ "$(curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9990/readyz)" = 200 ]; then
        ready=yes
        break
    fi
    systemctl is-failed --quiet meshtap.service && break
    sleep 0.5
done
say ready $ready
pid=$(systemctl show --value -p MainPID meshtap.service)
for key in NoNewPrivs Seccomp Seccomp_filters CapBnd Uid; do
    say "$key" "$(sed -n "s/^$key:[[:space:]]*//p" "/proc/$pid/status")"
done
say mounts "$(readlink "/proc/$pid/ns/mnt" | grep -qvxF "$(readlink /proc/1/ns/mnt)" && echo own)"
say root "$(awk '$5 == "/" { print $6 }' "/proc/$pid/mountinfo" | cut -d, -f1)"
say devices "$(ls "/proc/$pid/root/dev" | tr '\n' ' ')"
for key in ProtectSystem ProtectHome PrivateDevices PrivateTmp ProtectControlGroups \
    ProtectKernelTunables ProtectKernelModules ProtectKernelLogs ProtectClock ProtectHostname \
    MemoryDenyWriteExecute RestrictRealtime RestrictSUIDSGID RestrictNamespaces LockPersonality \
    RestrictAddressFamilies SystemCallArchitectures; do
    say "$key" "$(systemctl show --value -p $key meshtap.service)"
done
mkdir /run/shop
echo ok >/run/shop/index.html
/run/vm/busybox httpd -p 127.0.0.1:8080 -h /run/shop
for _ in 1 2 3; do
    curl -s -o /dev/null http://127.0.0.1:8080/
done
counted=0
for _ in $(seq 60); do
    counted=$(curl -s http://127.0.0.1:9990/metrics |
        sed -n 's/^http_client_request_duration_seconds_count{.*server_port="8080".*} //p')
    [ "$counted" = 3 ] && break
    sleep 0.5
done
say counted "$counted"
say stopped "$(systemctl stop meshtap.service && systemctl show --value -p Result meshtap.service)"
journalctl --no-pager -u meshtap.service | tail -40
