#!/bin/sh
# A Slurm cluster of one node, this machine, for trying things out; nothing outside its folder is touched.
#   apt-get install slurm-wlm munge            (once, as root; the services that the packages bring are not used)
#   . tests/slurm/one_node.sh start [FOLDER]   (as root; FOLDER=/tmp/one_node) then sbatch, srun, squeue in this shell
#   sh tests/slurm/one_node.sh stop [FOLDER]
folder=${2:-/tmp/one_node}
export SLURM_CONF="$folder/slurm.conf"
PATH=$PATH:/usr/sbin
host=$(hostname -s)

# Started processes by the pid files that they keep.
end() {
    for name in slurmd slurmctld munged; do
        [ -f "$folder/$name.pid" ] && kill "$(cat "$folder/$name.pid")" 2>/dev/null
    done
    true
}

start() {
    mkdir -p "$folder/state" "$folder/spool" && chmod 755 "$folder" || return 1
    if [ ! -f "$folder/munge.key" ]; then
        (umask 077 && dd if=/dev/urandom of="$folder/munge.key" bs=1024 count=1 2>/dev/null) || return 1
    fi
    cat >"$SLURM_CONF" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
KillWait=10
MessageTimeout=60
NodeName=$host NodeAddr=127.0.0.1 CPUs=4 RealMemory=$(free -m | awk "/^Mem/ {print \$2}") State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
    munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
        --log-file="$folder/munged.log" --seed-file="$folder/munge.seed" || return 1
    slurmctld -f "$SLURM_CONF" && slurmd -f "$SLURM_CONF" || return 1
    for _ in $(seq 240); do
        [ "$(sinfo -h -o %t 2>/dev/null)" = idle ] && return 0
        sleep 0.5
    done
    echo "the node is not ready; see $folder/slurmctld.log and $folder/slurmd.log" >&2
    return 1
}

case $1 in
start) start && sinfo ;;
stop) end ;;
*) echo "usage: one_node.sh start|stop [FOLDER]" >&2; false ;;
esac
