package doors_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/doors"
)

// pair is two ends of a unix socket, to hand descriptors over.
func (a *attempt) pair() (giver, taker *os.File) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	a.fail(err)
	return os.NewFile(uintptr(fds[0]), "giver"), os.NewFile(uintptr(fds[1]), "taker")
}

// handOver runs two processes: what the first passes, the second takes.
func (a *attempt) handOver(from place, give []string, to place, take []string) {
	giver, taker := a.pair()
	defer taker.Close()
	from.file, to.file = giver, taker
	g := a.start(from, "agent", append(give, "pass", "pause")...)
	giver.Close()
	defer g.kill()
	if _, _, ok := g.paused(); !ok {
		g.wait()
		return
	}
	a.run(to, "agent", append([]string{"take"}, take...)...)
}

// moved moves a program into another cgroup while it pauses.
func moved(from, to, program string, args ...string) func(a *attempt) {
	return func(a *attempt) {
		p := a.start(place{cgroup: from}, program, args...)
		if pid, _, ok := p.paused(); ok {
			a.fail(os.WriteFile(filepath.Join(a.w.cgroup(to), "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
		}
		if p.wait() {
			a.sent()
		}
	}
}

// older is a door that opens before the guard comes up, and is gone through
// afterwards: the program pauses in between.
func older(target string, p place, program string, args ...string) *door {
	d := does(target, func(a *attempt) {
		proc := a.start(p, program, args...)
		if _, _, ok := proc.paused(); ok {
			a.guard()
		}
		if proc.wait() {
			a.sent()
		}
	})
	d.early = true
	return d
}

func words(s string) []string { return strings.Fields(s) }

const (
	giving = "socket=tcp4"
	going  = "socket=tcp4 connect send"
)

var outside = place{cgroup: "outside"}

var byHand = []*door{
	does(home, moved("outside", "", "agent", words("socket=tcp4 pause connect send")...)).
		named("made before joining", "a socket made outside; its process is moved inside and connects").
		since(doors.Redirected, byTask),
	does(home, moved("outside", "", "ring", "polled", "pause")).
		named("io_uring, SQPOLL, made before joining", "a ring made outside; its process is moved inside and connects by it").
		since(doors.Redirected, "the kernel's thread moves with the process"),
	does(home, func(a *attempt) { a.handOver(outside, words(giving), place{}, words("connect send")) }).
		named("made outside, passed in", "SCM_RIGHTS; connected inside").
		since(doors.Redirected, byTask),
	does(home, func(a *attempt) { a.handOver(outside, words("socket=udp4"), place{}, words("sendto")) }).
		named("UDP, made outside, passed in", "SCM_RIGHTS; sent from inside").
		since(doors.Refused, byDatagram),
	does(home, func(a *attempt) { a.handOver(outside, words("socket=sctp4"), place{}, words("connect send")) }).
		named("SCTP, made outside, passed in", "SCM_RIGHTS; connected inside").
		since(doors.Passes, "out of scope of this mode: SCTP has no connect hook, and the socket belongs outside; mode `host` answers it").
		since(doors.Refused, bySocket),
	does(home, func(a *attempt) { a.handOver(place{}, words(giving), outside, words("connect send")) }).
		named("made inside, passed out", "SCM_RIGHTS; connected outside").
		since(doors.Redirected, bySocketOf),
	does(home, moved("", "outside", "agent", words("socket=tcp4 pause connect send")...)).
		named("made inside, connected after leaving", "the process is moved outside in between").
		since(doors.Redirected, bySocketOf),
	does(home, func(a *attempt) { a.handOver(outside, words("socket=tcp4 connect"), place{}, words("send")) }).
		named("connected outside, passed in", "SCM_RIGHTS; used inside").
		since(doors.Passes, onlyHost),
	does(home, func(a *attempt) {
		p := a.start(outside, "agent", words("socket=tcp4 connect pause")...)
		defer p.kill()
		if pid, fd, ok := p.paused(); ok {
			a.run(place{}, "agent", fmt.Sprintf("getfd=%d,%d", pid, fd), "send")
		} else {
			p.wait()
		}
	}).named("pidfd_getfd", "take a connected socket out of a process outside, of the same user").
		since(doors.Passes, onlyHost),
	does(home, func(a *attempt) {
		a.run(place{}, "agent", append([]string{"join=" + a.w.cgroup("outside")}, words(going)...)...)
	}).named("leaving the cgroup", "write to cgroup.procs of one outside, where files permit it").
		since(doors.Passes, onlyHost),
	does(home, func(a *attempt) {
		a.run(place{}, "agent", append([]string{"clone=" + a.w.cgroup("outside")}, words(going)...)...)
	}).named("CLONE_INTO_CGROUP", "have a child born outside, where files permit it").
		since(doors.Passes, onlyHost),
	older(home, place{}, "agent", words("socket=tcp4 connect pause send")...).
		named("older connection", "connected before the guard came up").
		since(doors.Refused, "it is destroyed when the guard comes up, and "+byEgress),
	older(home6, place{}, "agent", words("socket=tcp6 connect pause send")...).
		named("older connection, IPv6", "the same in IPv6").
		since(doors.Refused, "it is destroyed when the guard comes up, and "+byEgress),
	older("127.0.0.2:5432", place{}, "agent", words("socket=tcp4 connect pause send")...).
		named("older connection, alias", "the same to a local address that is not listed, where the server listens too").
		since(doors.Refused, byEgress),
	older(near, place{far: true}, "agent", words("socket=tcp4 connect pause send")...).
		named("older connection, in another namespace", "the same from a container's network namespace").
		since(doors.Refused, "it is destroyed when the guard comes up, and "+byEgress),
	older(home, place{}, "agent", words("socket=udp4 connect pause send")...).
		named("older UDP socket", "connected before the guard came up").
		since(doors.Refused, byEgress),
	older(home, place{}, "agent", words("socket=sctp4 connect pause send")...).
		named("older SCTP association", "connected before the guard came up").
		since(doors.Refused, byEgress),
	older(home, place{caps: []uintptr{unix.CAP_NET_RAW}}, "wire", "127.0.0.1:0", "header", "pause").
		named("older raw socket", "made before the guard came up, with CAP_NET_RAW").
		since(doors.Refused, byEgress),
	does(home, func(a *attempt) {
		a.guard()
		dir := a.w.cgroup("remade")
		a.fail(unix.Rmdir(dir))
		a.fail(os.Mkdir(dir, 0o755))
		a.run(place{cgroup: "remade"}, "agent", words(going)...)
	}).before().named("cgroup made again", "the covered cgroup is removed and made again under its name").
		since(doors.Passes, "out of scope of this mode, until the guard is told: cover a parent that stays, or use mode `host`"),
}

func (d *door) before() *door {
	d.early = true
	return d
}

var wires atomic.Int32

// wiredUp starts an agent that makes a network namespace of its own, and
// connects that with the host, as a container engine would.
func wiredUp(net int, after ...string) *door {
	return does(wired(net), func(a *attempt) {
		p := a.start(place{}, "agent", append(words("unshare pause"), after...)...)
		pid, _, ok := p.paused()
		if !ok {
			p.wait()
			return
		}
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
		a.fail(err)
		defer ns.Close()
		name := fmt.Sprintf("wire%d", wires.Add(1))
		a.fail(wire(name, prefix("10.77.%d.1/24", net), "eth0", prefix("10.77.%d.2/24", net), ns))
		defer func() { a.fail(unwire(name)) }()
		if p.wait() {
			a.sent()
		}
	}).since(doors.Refused, noPassage)
}

var byNamespace = []*door{
	does(near, func(a *attempt) { a.run(place{far: true}, "agent", words(going)...) }).
		named("another namespace", "connect from a container's network namespace").
		since(doors.Refused, noPassage),
	does(wired(9), func(a *attempt) { a.run(place{net: a.w.served}, "agent", words(going)...) }).
		named("another namespace, with a passage", "the same where the passage listens in the namespace too"),
	wiredUp(1, words(going)...).
		named("unshare -Urn", "make a user and a network namespace; the host connects it with a wire"),
	wiredUp(2, words("socket=udp4 sendto")...).
		named("unshare -Urn, UDP", "the same, with a datagram").since(doors.Refused, byDatagram),
	steps(home, "socket=tcp4", "unshare", "connect", "send").
		named("unshare -Urn, with an older socket", "make the namespaces, connect a socket from before").
		since(doors.Redirected, "the socket stays in its namespace, and that has a passage"),
	does(near, func(a *attempt) {
		a.run(place{file: a.w.far, caps: []uintptr{unix.CAP_SYS_ADMIN}}, "agent", append([]string{"setns=3"}, words(going)...)...)
	}).named("setns", "enter another network namespace, with CAP_SYS_ADMIN").
		since(doors.Refused, noPassage),
	does(near, func(a *attempt) {
		a.handOver(place{far: true}, words(giving), place{}, words("connect send"))
	}).named("socket of another namespace", "made in a container's namespace, passed to an agent of the host's").
		since(doors.Refused, noPassage),
	does(home, func(a *attempt) {
		a.handOver(place{}, words(giving), place{far: true}, words("connect send"))
	}).named("socket of the host's namespace", "made in the host's namespace, passed to an agent in a container's").
		since(doors.Redirected, "the socket stays in its namespace, and that has a passage"),
}

// forwardedBy runs a process that carries connections to the server.
func forwardedBy(cgroup, at string) *door {
	return does(at, func(a *attempt) {
		cmd := exec.Command("/proc/self/exe", at, home)
		cmd.Env = []string{"DOORS_ROLE=relay", "GORACE=atexit_sleep_ms=0"}
		relay := a.launch(place{cgroup: cgroup}, cmd)
		defer relay.kill()
		if line, err := bufio.NewReader(relay.out).ReadString('\n'); line != "ready\n" {
			a.fail(fmt.Errorf("relay: %q, %v", line, err))
		}
		a.run(place{}, "agent", words(going)...)
	})
}

var byForwarding = []*door{
	steps(fmt.Sprintf("127.0.0.1:%d", dnatPort), words(going)...).
		named("DNAT", "connect to a port that the host translates to the server's address").
		since(doors.Refused, byEgress),
	steps(fmt.Sprintf("127.0.0.1:%d", redirectPort), words(going)...).
		named("REDIRECT", "connect to a port that the host redirects to the server's").
		since(doors.Refused, byEgress),
	forwardedBy("outside", "127.0.0.1:7003").
		named("local forwarder", "a process outside that carries connections: a pooler, `ssh -L`, docker-proxy").
		since(doors.Passes, "out of scope of this mode: the forwarder is outside; protect its port as a destination too, or use mode `host`").
		since(doors.Redirected, "the forwarder's own connection is turned, and has the forwarder's identity"),
	forwardedBy("outside", ownForwarder).
		named("local forwarder, protected", "the same where the forwarder's port is a protected destination").
		since(doors.Redirected, "the agent's connection to the forwarder is turned"),
	forwardedBy("relay", "127.0.0.1:7004").
		named("exempt forwarder", "the same in a cgroup that mode `host` exempts").
		since(doors.Passes, "out of scope: what is exempt may connect; protect its port as a destination too"),
}

// spelled is a door to the server's unix socket by a name that f makes, which
// may need steps before.
func spelled(f func(a *attempt, path string) (name string, before []string)) *door {
	return does("", func(a *attempt) {
		name, before := f(a, a.w.socketPath())
		a.run(place{target: "unix:" + name}, "agent", append(before, words("socket=unix connect send")...)...)
	})
}
