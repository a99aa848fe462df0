package doors_test

import (
	"fmt"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/cmd/internal/doors"
)

// group is doors that stand together in the document.
type group struct {
	title string
	doors []*door
}

var table = []group{
	{"Connections", byConnection},
	{"Other protocols, and packets made by hand", byPacket},
	{"Descriptors, cgroups and time", byHand},
	{"Network namespaces", byNamespace},
	{"What the host forwards", byForwarding},
	{"The passage itself", byPassage},
	{"Sockets that are not inet", byName},
	{"Unix sockets, with an allow-list", byAllowance},
}

// does is a door that is tried by f.
func does(target string, f func(*attempt)) *door { return &door{target: target, try: f} }

// steps is a door that an agent inside tries by itself.
func steps(target string, s ...string) *door {
	return does(target, func(a *attempt) { a.run(place{}, "agent", s...) })
}

// named gives what the document says of a door.
func (d *door) named(name, how string) *door {
	d.Name, d.How = name, how
	return d
}

// since gives the sentence of an answer.
func (d *door) since(answer doors.Answer, why string) *door {
	if d.Why == nil {
		d.Why = map[doors.Answer]string{}
	}
	d.Why[answer] = why
	return d
}

// Sentences of several doors.
const (
	byEgress   = "the egress hook drops the packets"
	bySocket   = "the sock_create hook refuses the socket"
	byDatagram = "there is no passage for datagrams: connect and sendmsg refuse them"
	noPassage  = "there is no passage in that network namespace"
	byBind     = "the bind hook keeps the port"
	bySocketOf = "the socket belongs to a covered cgroup, whoever connects it"
	byTask     = "whoever connects is covered, whoever made the socket"
	onlyHost   = "out of scope of this mode: who connects is outside; mode `host` answers it"
	noRaw      = "out of scope: no cgroup hook sees such frames; take CAP_NET_RAW away, `sallyport doctor` names who holds it"
	byVeth     = "the program at the host's end of the pair drops such frames"
	byNaming   = "out of scope without an allow-list: the hook compares names as they are written; the permissions of the file are the guarantee"
	beforeUnix = "out of scope: the kernel has no hook for unix sockets before 6.7; the permissions of the file are the guarantee"
	byList     = "the name is not on the allow-list"
)

var byConnection = []*door{
	steps(home, "socket=tcp4", "connect", "send").
		named("IPv4", "connect"),
	steps(home6, "socket=tcp6", "connect", "send").
		named("IPv6", "connect"),
	steps("[::ffff:127.0.0.1]:5432", "socket=tcp6", "connect", "send").
		named("mapped IPv4", "connect an IPv6 socket to ::ffff:127.0.0.1"),
	steps("0.0.0.0:5432", "socket=tcp4", "connect", "send").
		named("0.0.0.0", "connect to the unspecified address, which means loopback"),
	steps("[::]:5432", "socket=tcp6", "connect", "send").
		named("::", "the same in IPv6"),
	steps("[::ffff:0.0.0.0]:5432", "socket=tcp6", "connect", "send").
		named("mapped 0.0.0.0", "connect an IPv6 socket to ::ffff:0.0.0.0"),
	steps("0.0.0.0:5432", "socket=tcp4", "bind=10.77.0.1:0", "connect", "send").
		named("0.0.0.0, bound", "bind to another address of the host, which 0.0.0.0 then means"),
	steps("[::]:5432", "socket=tcp6", "bind=[::ffff:10.77.0.1]:0", "connect", "send").
		named("::, bound to IPv4", "bind an IPv6 socket to a mapped address, which :: then means"),
	steps(near, "socket=tcp4", "connect", "send").
		named("address of this host", "connect to an address of the host that is not loopback"),
	steps(away, "socket=tcp4", "connect", "send").
		named("address elsewhere", "connect to a server at the other end of a wire"),
	steps("127.0.0.2:5432", "socket=tcp4", "connect", "send").
		named("alias", "connect to a local address that is not listed, where the server listens too").
		since(doors.Refused, "a listed port of this host is refused at its other addresses"),
	steps(home, "socket=tcp4", "bind=127.0.0.9:0", "connect", "send").
		named("bound source", "bind to another local address first"),
	steps(home, "socket=tcp4", "to="+free, "connect", "disconnect", "to="+home, "connect", "send").
		named("second connect", "connect to a free address, dissolve it by AF_UNSPEC, connect again"),
	does(home, func(a *attempt) {
		a.run(place{caps: []uintptr{unix.CAP_NET_ADMIN}}, "agent", "socket=tcp4", "mark=4242", "connect", "send")
	}).named("SO_MARK", "mark the socket, with CAP_NET_ADMIN"),
	steps(home, "socket=mptcp4", "connect", "send").
		named("MPTCP", "connect an IPPROTO_MPTCP socket"),
	steps(home6, "socket=mptcp6", "connect", "send").
		named("MPTCP, IPv6", "the same in IPv6"),
	steps(home, "socket=tcp4", "fast-open").
		named("fast open by sendto", "sendto with MSG_FASTOPEN: the data travels in the SYN"),
	steps(home6, "socket=tcp6", "fast-open").
		named("fast open by sendto, IPv6", "the same in IPv6"),
	steps(home, "socket=tcp4", "fast-open-connect", "connect", "send").
		named("fast open by option", "TCP_FASTOPEN_CONNECT: connect sends nothing, the first send does"),
	does(home, func(a *attempt) { a.run(place{}, "ring") }).
		named("io_uring", "connect and send by requests in a ring"),
	does(home, func(a *attempt) { a.run(place{}, "ring", "polled") }).
		named("io_uring, SQPOLL", "the same, taken by a thread of the kernel"),
	does(home6, func(a *attempt) { a.run(place{}, "ring", "polled") }).
		named("io_uring, SQPOLL, IPv6", "the same in IPv6"),
}

// byWire is a door that is tried by hand-made packets, with CAP_NET_RAW.
func byWire(p place, target, from string, how ...string) *door {
	return does(target, func(a *attempt) {
		p := p
		p.caps = []uintptr{unix.CAP_NET_RAW}
		a.run(p, "wire", append([]string{from}, how...)...)
	})
}

var byPacket = []*door{
	steps(home, "socket=udp4", "connect", "send").
		named("UDP, connected", "connect and send a datagram").since(doors.Refused, byDatagram),
	steps(home, "socket=udp4", "sendto").
		named("UDP, sendto", "send without a connect").since(doors.Refused, byDatagram),
	steps(home6, "socket=udp6", "sendto").
		named("UDP, sendto, IPv6", "the same in IPv6").since(doors.Refused, byDatagram),
	steps("[::ffff:127.0.0.1]:5432", "socket=udp6", "sendto").
		named("UDP, sendto, mapped", "the same to a mapped address").since(doors.Refused, byDatagram),
	steps("0.0.0.0:5432", "socket=udp4", "sendto").
		named("UDP, sendto 0.0.0.0", "the same to the unspecified address").since(doors.Refused, byDatagram),
	steps(home, "socket=udp6", "sendto").
		named("UDP, sendto, IPv4 by an IPv6 socket", "an IPv6 socket is given an IPv4 address").since(doors.Refused, byDatagram),
	steps(home, "socket=udp6", "connect", "send").
		named("UDP, connected, IPv4 by an IPv6 socket", "the same with a connect").since(doors.Refused, byDatagram),
	steps(home, "socket=udp4", "unspecified", "sendto").
		named("UDP, sendto AF_UNSPEC", "an address without a family, which is taken for IPv4").since(doors.Refused, byDatagram),
	steps(home, "socket=udp4", "sendmmsg").
		named("UDP, sendmmsg", "send many at once").since(doors.Refused, byDatagram),
	steps(home, "socket=udplite4", "sendto").
		named("UDP-Lite", "sendto").since(doors.Refused, byDatagram),
	steps(home, "socket=sctp4", "connect", "send").
		named("SCTP", "connect a one-to-one socket").since(doors.Refused, bySocket),
	steps(home, "socket=sctp4-many", "sendto").
		named("SCTP, one to many", "sendto, which connects by itself").since(doors.Refused, bySocket),
	steps(home, "socket=dccp4", "connect", "send").
		named("DCCP", "connect").since(doors.Refused, bySocket),
	byWire(place{}, home, "127.0.0.1:0", "raw").
		named("raw socket", "speak TCP over a raw IPPROTO_TCP socket, with CAP_NET_RAW").since(doors.Refused, bySocket),
	byWire(place{}, home, "127.0.0.1:0", "header").
		named("raw socket, IP_HDRINCL", "the same with IP headers of its own").since(doors.Refused, bySocket),
	byWire(place{}, home6, "[::1]:0", "raw").
		named("raw socket, IPv6", "speak TCP over a raw IPv6 socket, with CAP_NET_RAW").since(doors.Refused, bySocket),
	byWire(place{}, home6, "[::1]:0", "header").
		named("raw socket, IPv6 header", "the same with IPv6 headers of its own").since(doors.Refused, bySocket),
	byWire(place{}, away, "10.77.0.1:0", "packet=near").
		named("AF_PACKET on the host", "speak TCP over a packet socket on the host's interface, with CAP_NET_RAW").since(doors.Passes, noRaw),
	does(near, func(a *attempt) {
		a.run(place{net: a.w.far, caps: []uintptr{unix.CAP_NET_RAW}}, "wire", "10.77.0.2:0", "packet=away")
	}).named("AF_PACKET across a veth", "the same from a container's namespace, on its end of a veth pair").since(doors.Refused, byVeth),
}

// direct dials the passage's own port; in the proof, a server that is there.
func direct(host string, before ...string) *door {
	return does("", func(a *attempt) {
		port := passagePort
		if a.w.phase.mode == "" {
			port = plainPort
		}
		to := fmt.Sprintf("%s:%d", host, port)
		s := append([]string{"socket=tcp4"}, before...)
		if host[0] == '[' {
			s[0] = "socket=tcp6"
		}
		a.run(place{target: to}, "agent", append(s, "to="+to, "connect", "send")...)
	}).since(doors.Refused, "nobody may dial the passage; without a record it takes nobody")
}

// squat listens on the passage's port and waits for what was meant for it.
func squat(p place, how ...string) *door {
	d := does(home, func(a *attempt) {
		squatter := a.start(p, "agent", append(how, "listen", "accept")...)
		if _, ok := squatter.until("listen: ok"); !ok {
			squatter.wait()
			return
		}
		defer squatter.kill()
		go func() {
			for {
				line, err := squatter.out.ReadString('\n')
				if len(line) > 4 {
					a.w.ledger.note(line[4:], atSquatter)
				}
				if err != nil {
					return
				}
			}
		}()
		victim := place{}
		if a.w.phase.mode == "" {
			victim.target = fmt.Sprintf("127.0.0.1:%d", passagePort)
		}
		a.run(victim, "agent", "socket=tcp4", "connect", "send")
	})
	d.alone = true
	return d.since(doors.Refused, byBind)
}

var byPassage = []*door{
	direct("127.0.0.1").named("passage dialled", "connect to the passage's port"),
	direct("[::1]").named("passage dialled, IPv6", "the same in IPv6"),
	direct("[::ffff:127.0.0.1]").named("passage dialled, mapped", "the same by a mapped address"),
	direct("127.0.0.1", "to="+home, "connect", "disconnect").
		named("passage dialled, with an old record", "connect to the server, dissolve that, dial the passage with the same socket"),
	squat(place{}, "socket=tcp4", "reuse", "bind=127.0.0.1:15432").
		named("squatting", "listen on the passage's port with SO_REUSEPORT, and wait for a neighbour's connection"),
	squat(place{}, "socket=tcp4", "reuse", "bind=0.0.0.0:15432").
		named("squatting, any address", "the same on 0.0.0.0"),
	squat(place{}, "socket=tcp6", "reuse", "bind=[::]:15432").
		named("squatting, IPv6", "the same on ::"),
	squat(place{cgroup: "outside"}, "socket=tcp4", "reuse", "bind=127.0.0.1:15432").
		named("squatting, from outside", "the same by somebody who is not covered"),
	squat(place{}, "socket=tcp4", "port-range=15432").
		named("squatting, without bind", "have listen choose the port, with IP_LOCAL_PORT_RANGE").
		since(doors.Unverified, "the kernel chooses no port outside net.ipv4.ip_local_port_range, and the passage's is outside"),
}
