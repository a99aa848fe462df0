package protocols

import (
	"net"
	"syscall"
)

// HungUp reports whether the client has gone, by a look at what it sent that
// takes nothing away. It belongs to the goroutine that reads the client.
func (s *Session) HungUp() bool {
	door := s.Client()
	for {
		t, ok := door.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		door = t.NetConn()
	}
	c, ok := door.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		gone = n == 0 && err == nil || err != nil && err != syscall.EAGAIN && err != syscall.EINTR
	})
	return gone || err != nil
}
