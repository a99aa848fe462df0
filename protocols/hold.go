package protocols

import (
	"context"
	"net"
	"syscall"
	"time"

	"sallyport.dev/sallyport/policy"
)

// Tell writes bytes of the protocol's own to the client, whole messages at a time,
// while nothing else is due to it. Both goroutines may.
func (s *Session) Tell(b []byte) error {
	_, err := s.o.Flow.Conn.Write(b)
	return err
}

// States of a TCP connection whose other side has gone (linux/include/net/tcp_states.h).
const (
	tcpClose     = 7
	tcpCloseWait = 8
	tcpLastAck   = 9
	tcpClosing   = 11
)

// Left is HungUp for a client that may have sent more before it went.
func (s *Session) Left() bool {
	if s.HungUp() {
		return true
	}
	door := s.Client()
	for {
		t, ok := door.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		door = t.NetConn()
	}
	c, ok := door.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return true
	}
	state := 0
	cerr := raw.Control(func(fd uintptr) {
		// The first byte of struct tcp_info.
		state, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_INFO)
	})
	if cerr != nil || err != nil {
		return cerr != nil
	}
	switch state & 0xff {
	case tcpClose, tcpCloseWait, tcpLastAck, tcpClosing:
		return true
	}
	return false
}

// holder is the latest request that may have to wait, and what its protocol does then.
// It is kept, since most never wait, and nothing is to be allocated for these.
type holder struct {
	ctx  context.Context
	r    *policy.Request
	hold func(context.Context, policy.Held) (context.Context, func())
	on   func(context.Context, policy.Held) (context.Context, func())
}

// holding has identities be proved again behind a wait, before anything is decided
// once more.
func (s *Session) holding(ctx context.Context, r *policy.Request) {
	if r.OnHold == nil {
		return
	}
	if s.holder.on == nil {
		s.holder.on = s.onHold
	}
	s.holder.ctx, s.holder.r, s.holder.hold = ctx, r, r.OnHold
	r.OnHold = s.holder.on
}

func (s *Session) onHold(c context.Context, h policy.Held) (context.Context, func()) {
	x := s.holder
	wait, done := x.hold(c, h)
	return wait, func() {
		done()
		now := time.Now()
		s.prove(x.ctx, now)
		s.hear(x.ctx, x.r, now)
	}
}
