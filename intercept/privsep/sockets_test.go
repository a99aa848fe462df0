package privsep

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

// Sockets are connections whose records are known, as the kernel knows those
// of turned ones: by the socket.
type Sockets struct {
	mu    sync.Mutex
	peers map[uint64]intercept.Peer // by SO_COOKIE
}

// Connect returns an accepted connection of a peer's.
func (s *Sockets) Connect(t testing.TB, peer intercept.Peer) *net.UnixConn {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(fds[1])
	f := os.NewFile(uintptr(fds[0]), "accepted")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	cookie, err := unix.GetsockoptUint64(fds[0], unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peers == nil {
		s.peers = map[uint64]intercept.Peer{}
	}
	s.peers[cookie] = peer
	return c.(*net.UnixConn)
}

// Peer returns who shows such a connection to the loader, and claims nothing.
func (s *Sockets) Peer(t testing.TB, peer intercept.Peer) *intercept.Peer {
	return &intercept.Peer{Socket: s.Connect(t, peer)}
}

// Record implements Record.
func (s *Sockets) Record(fd int) (intercept.Peer, error) {
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return intercept.Peer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.peers[cookie]
	if !ok {
		return p, errors.New("no record")
	}
	return p, nil
}
