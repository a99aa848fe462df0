package doors_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ledger notes where the attempts' tokens arrived. Tokens are unique.
type ledger struct {
	mu   sync.Mutex
	seen map[string][]string // places by token
}

const (
	atServer   = "the server"
	atPassage  = "the passage"
	atSquatter = "a squatter"
)

func (l *ledger) note(token, place string) {
	token = strings.TrimSpace(token)
	if token == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.seen == nil {
		l.seen = map[string][]string{}
	}
	l.seen[token] = append(l.seen[token], place)
}

func (l *ledger) places(token string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]string(nil), l.seen[token]...)
}

// wait waits for a token to arrive anywhere.
func (l *ledger) wait(token string, limit time.Duration) {
	for end := time.Now().Add(limit); time.Now().Before(end) && len(l.places(token)) == 0; {
		time.Sleep(5 * time.Millisecond)
	}
}

// serverPort is that of the protected server, in every protocol.
const serverPort = 5432

// Protocols that Go's net package does not speak.
const (
	protoSCTP    = 132
	protoUDPLite = 136
	protoDCCP    = 33
	typeDCCP     = 6
	levelDCCP    = 269
	dccpService  = 2
)

// A service is a kind of socket that the server listens on. The ones that a
// kernel may lack are named: their doors are then unverified.
type service struct {
	name                string
	family, typ, proto  int
	optional, connected bool
}

var services = []service{
	{name: "tcp", family: unix.AF_INET6, typ: unix.SOCK_STREAM, proto: unix.IPPROTO_TCP, connected: true},
	{name: "udp", family: unix.AF_INET6, typ: unix.SOCK_DGRAM, proto: unix.IPPROTO_UDP},
	{name: "udplite", family: unix.AF_INET6, typ: unix.SOCK_DGRAM, proto: protoUDPLite, optional: true},
	{name: "sctp", family: unix.AF_INET, typ: unix.SOCK_STREAM, proto: protoSCTP, optional: true, connected: true},
	{name: "dccp", family: unix.AF_INET, typ: typeDCCP, proto: protoDCCP, optional: true, connected: true},
}

// serve makes the server's sockets in the network namespace of this thread.
func serve(l *ledger) error {
	for _, s := range services {
		var at unix.Sockaddr = &unix.SockaddrInet6{Port: serverPort} // IPv4 too
		if s.family == unix.AF_INET {
			at = &unix.SockaddrInet4{Port: serverPort}
		}
		if err := s.listen(l, at); err != nil && !s.optional {
			return fmt.Errorf("server, %s: %w", s.name, err)
		}
	}
	return nil
}

func (s service) listen(l *ledger, at unix.Sockaddr) error {
	fd, err := unix.Socket(s.family, s.typ|unix.SOCK_CLOEXEC, s.proto)
	if err != nil {
		return err
	}
	if s.proto == protoDCCP {
		var code [4]byte
		binary.BigEndian.PutUint32(code[:], 42)
		if err := unix.SetsockoptString(fd, levelDCCP, dccpService, string(code[:])); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, at); err != nil {
		return err
	}
	if !s.connected {
		go datagrams(l, fd)
		return nil
	}
	if err := unix.Listen(fd, 64); err != nil {
		return err
	}
	go connections(l, fd)
	return nil
}

func datagrams(l *ledger, fd int) {
	buf := make([]byte, 2048)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err == nil {
			l.note(string(buf[:n]), atServer)
		} else if err != unix.EINTR {
			return
		}
	}
}

func connections(l *ledger, fd int) {
	for {
		c, _, err := unix.Accept4(fd, unix.SOCK_CLOEXEC)
		if err == unix.EINTR || err == unix.ECONNABORTED {
			continue
		}
		if err != nil {
			return
		}
		go func() {
			defer unix.Close(c)
			var all []byte
			buf := make([]byte, 256)
			for !bytes.ContainsRune(all, '\n') {
				n, err := unix.Read(c, buf)
				if err == unix.EINTR {
					continue
				}
				if err != nil || n == 0 {
					break
				}
				all = append(all, buf[:n]...)
			}
			l.note(string(all), atServer)
		}()
	}
}

// Other ways to the server, of this host only.
func serveLocally(l *ledger, path, abstract string, port int) error {
	stream := service{name: "unix", family: unix.AF_UNIX, typ: unix.SOCK_STREAM, connected: true}
	if err := stream.listen(l, &unix.SockaddrUnix{Name: path}); err != nil {
		return fmt.Errorf("server at %s: %w", path, err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return err
	}
	if err := stream.listen(l, &unix.SockaddrUnix{Name: "@" + abstract}); err != nil {
		return fmt.Errorf("server at abstract %s: %w", abstract, err)
	}
	gram := service{name: "unix datagrams", family: unix.AF_UNIX, typ: unix.SOCK_DGRAM}
	if err := gram.listen(l, &unix.SockaddrUnix{Name: "@" + datagram}); err != nil {
		return fmt.Errorf("server at abstract %s: %w", datagram, err)
	}
	tcp := service{name: "tcp", family: unix.AF_INET6, typ: unix.SOCK_STREAM, connected: true}
	if err := tcp.listen(l, &unix.SockaddrInet6{Port: port}); err != nil {
		return fmt.Errorf("server at port %d: %w", port, err)
	}
	vsock := service{name: "vsock", family: unix.AF_VSOCK, typ: unix.SOCK_STREAM, connected: true}
	_ = vsock.listen(l, &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: serverPort}) // else its door is unverified
	return nil
}
