#!/usr/bin/env python3
"""One move of a guest between two "hosts" (pid and mount namespaces) on this machine, with what the caller wants to go
wrong; prints facts as NAME=VALUE lines. To be run as

    unshare --mount --net --pid --fork --kill-child --mount-proc -- python3 move_lab.py ...

so that everything it starts ends with it.
"""
import argparse
import json
import os
import pathlib
import subprocess
import threading
import time

parser = argparse.ArgumentParser()
parser.add_argument("--build", required=True)
parser.add_argument("--work", required=True)
parser.add_argument("--certificates", required=True, help="directory with ca.pem and {source,agent}.{pem,key}")
parser.add_argument("--guest", default="counter 8 16")
parser.add_argument("--run", action="append", default=[], help="argument of migrate run")
parser.add_argument("--command", default="run", help="run or check")
parser.add_argument("--agent", action="append", default=[], help="argument of migrate agent")
parser.add_argument("--run-fault", default="")
parser.add_argument("--agent-fault", default="")
parser.add_argument("--run-timeout", type=int, default=8, help="when run counts as hanging")
parser.add_argument("--on-agent-host", action="append", default=[], help="shell command before the move")
parser.add_argument("--source-certificate", default="source")
parser.add_argument("--restart-agent", action="store_true", help="start an agent without faults after the move hangs")
options = parser.parse_args()
work = pathlib.Path(options.work)
facts = {}


def wait_for(condition, seconds=15.0, pause=0.01):
    """A limit that only catches hangs."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(pause)
    return False


class Host:
    def __init__(self, name):
        self.name = name
        self.outer = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "bash", "-c",
             "echo; while :; do sleep 3600 & wait $!; done"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        self.outer.stdout.read(1)  # the namespaces are complete
        children = pathlib.Path(f"/proc/{self.outer.pid}/task/{self.outer.pid}/children").read_text()
        self.init = children.split()[0]

    def command(self, arguments):
        return ["nsenter", "--target", self.init, "--mount", "--pid", "--", *arguments]

    def start(self, arguments, fault="", **keywords):
        environment = dict(os.environ)
        if fault:
            environment["GODWIT_FAULT_POINT"] = fault
        return subprocess.Popen(self.command(arguments), env=environment, stdin=subprocess.DEVNULL, **keywords)

    def shell(self, text):
        return subprocess.run(self.command(["sh", "-c", text]), stdin=subprocess.DEVNULL, capture_output=True,
                              text=True)

    def stat(self, pid):
        """(state, parent) in this host's numbers, looked at from outside through its init's /proc."""
        try:
            text = pathlib.Path(f"/proc/{self.init}/root/proc/{pid}/stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            return "gone", 0
        state, parent = text.rsplit(")", 1)[1].split()[:2]
        return {"T": "stopped", "t": "traced", "Z": "gone", "X": "gone"}.get(state, "running"), int(parent)


def tls(owner):
    directory = options.certificates
    return ["--tls-cacert", f"{directory}/ca.pem", "--tls-cert", f"{directory}/{owner}.pem", "--tls-key",
            f"{directory}/{owner}.key"]


def start_agent(host, fault, log):
    reader, writer = os.pipe()
    arguments = [f"{options.build}/migrate", "agent", "--listen", "127.0.0.1:27185", "--work-dir", str(work / "agent"),
                 "--status-fd", str(writer), "--pidfile", str(work / "agent.pid"), "-v", "4", *tls("agent"),
                 *options.agent]
    process = host.start(arguments, fault, stderr=open(log, "a"), stdout=subprocess.DEVNULL, pass_fds=[writer],
                         start_new_session=True)
    os.close(writer)
    ready = os.read(reader, 1)
    os.close(reader)
    if not ready:
        raise SystemExit("the agent did not start: " + pathlib.Path(log).read_text())
    return process, int((work / "agent.pid").read_text())


def start_guest(host, report):
    name, *arguments = options.guest.split()
    host.shell("echo 20000 >/proc/sys/kernel/ns_last_pid")
    # Only the number that sh prints is the guest's in its own host.
    program = f"{options.build}/guests/{name}"
    started = host.shell(f"setsid {program} {report} {' '.join(arguments)} </dev/null >/dev/null 2>&1 & echo $!")
    pid = int(started.stdout)
    if not wait_for(lambda: rounds(report) > 3):
        raise SystemExit(f"the guest does not run: {started.stderr}")
    return pid


def rounds(report):
    try:
        return int(report.read_text().split("\n", 1)[0] or 0)
    except (FileNotFoundError, ValueError):
        return 0


class Watch(threading.Thread):
    """Looks all the time whether both copies run."""

    def __init__(self, source, destination, pid):
        super().__init__(daemon=True)
        self.hosts, self.pid, self.both, self.stopping = (source, destination), pid, 0, False

    def run(self):
        while not self.stopping:
            if self.both_run():
                # A copy that has just been killed looks as if it ran until it is gone; a second copy would stay.
                time.sleep(0.05)
                self.both += self.both_run()
            time.sleep(0.002)

    def both_run(self):
        return all(host.stat(self.pid)[0] == "running" for host in self.hosts)


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/dev/shm"], check=True)
    source, destination = Host("source"), Host("destination")
    for command in options.on_agent_host:
        done = destination.shell(command)
        if done.returncode != 0:
            raise SystemExit(f"{command}: {done.stderr}")
    agent, agent_pid = start_agent(destination, options.agent_fault, work / "agent.log")
    report = work / "report"
    pid = start_guest(source, report)
    watch = Watch(source, destination, pid)
    watch.start()
    run = source.start([f"{options.build}/migrate", options.command, "--tree", str(pid), "--to", "127.0.0.1", "--json",
                        "--work-dir", str(work / "source"), *tls(options.source_certificate), *options.run],
                       options.run_fault, stdout=open(work / "run.json", "w"), stderr=open(work / "run.log", "w"))
    try:
        facts["status"] = run.wait(timeout=options.run_timeout if options.restart_agent else 60)
    except subprocess.TimeoutExpired:
        facts["hung"] = 1
        facts["source_while_hung"] = source.stat(pid)[0]
        if options.restart_agent:
            # The agent and its workers, of which one may be stopped.
            destination.shell(f"kill -KILL $(cat /proc/{agent_pid}/task/{agent_pid}/children) {agent_pid}")
            agent.wait()
            start_agent(destination, "", work / "agent.log")
            facts["status"] = run.wait(timeout=60)
    settled = [None, 0.0]

    def is_settled():
        states = (source.stat(pid)[0], destination.stat(pid)[0])
        if states != settled[0]:
            settled[:] = [states, time.monotonic()]
        return states.count("running") == 1 and time.monotonic() - settled[1] > 0.7

    wait_for(is_settled, 20)
    facts["source"], facts["destination"] = source.stat(pid)[0], destination.stat(pid)[0]
    watch.stopping = True
    watch.join()
    facts["both_ran"] = watch.both
    before = rounds(report)
    facts["guest_goes_on"] = int(wait_for(lambda: rounds(report) > before + 3))
    facts["guest_failures"] = " ".join(report.read_text().split("\n")[1:]).strip()
    parent = pid
    while parent > 1 and parent != agent_pid:
        parent = destination.stat(parent)[1]
    facts["descends_from_agent"] = int(parent == agent_pid and facts["destination"] == "running")
    facts["message"] = " | ".join((work / "run.log").read_text().splitlines()[-4:])
    left = lambda: list(pathlib.Path("/dev/shm").glob("godwit-*"))
    wait_for(lambda: not left(), 5)  # a guardian may be about to remove them
    facts["left_in_shm"] = len(left())
    try:
        told = json.loads((work / "run.json").read_text())
        facts["rounds"] = len(told["rounds"])
        facts["outcome"] = told["outcome"]
        facts["findings"] = " | ".join(told["findings"])
        facts["postcopy_pages"] = told["postcopy"]["pages"]
        facts["lazy_pages"] = told["final"]["lazy_pages"]
        facts["shipped_pages"] = told["final"]["shipped_pages"]
        facts["dirty_pages"] = told["final"]["dirty_pages"]
    except (ValueError, KeyError):
        pass
    for name, value in facts.items():
        print(f"{name}={value}")


main()
