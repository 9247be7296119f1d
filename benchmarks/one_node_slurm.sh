#!/usr/bin/env bash
# A SLURM of one node on this machine, from Debian's packages: apt-get install slurm-wlm munge. Needs root.
# source benchmarks/one_node_slurm.sh; start_slurm; sbatch ...; stop_slurm
start_slurm() {
  local cpus
  cpus=$(nproc)
  mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd /var/log/slurm /run/munge
  [ -f /etc/munge/munge.key ] || { head -c 1024 /dev/urandom > /etc/munge/munge.key; chmod 400 /etc/munge/munge.key; }
  chown -R munge: /etc/munge /var/log/munge /var/lib/munge /run/munge
  cat > /etc/slurm/slurm.conf << CONF
ClusterName=one
SlurmctldHost=$(hostname)
AuthType=auth/munge
SlurmUser=root
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurm/slurmctld.log
SlurmdLogFile=/var/log/slurm/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
JobRequeue=1
KillWait=60
PreemptType=preempt/none
NodeName=$(hostname) CPUs=$cpus State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
  echo "ConstrainCores=no" > /etc/slurm/cgroup.conf
  pgrep munged > /dev/null || runuser -u munge -- munged
  slurmctld
  slurmd
  sleep 3
  scontrol update nodename="$(hostname)" state=resume 2> /dev/null || true
  sinfo
}

stop_slurm() {
  scancel --user="$(id -un)" 2> /dev/null
  pkill slurmd
  pkill slurmctld
  pkill munged
  sleep 1
}
