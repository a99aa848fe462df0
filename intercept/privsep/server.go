package privsep

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

const (
	inFlight = 1024            // requests of the daemon being answered
	patience = 5 * time.Second // for one of them
)

// serve answers the daemon until it hangs up (nil) or says something that
// this protocol does not have (an error: it is broken or taken over).
func serve(ctx context.Context, conn *net.UnixConn, p intercept.Prover) error {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	// The socket is closed first, so that no answer waits for its reader. A
	// proof that hangs (its token file may stand on a file system that the
	// workload serves) is left behind.
	defer waitAtMost(&wg, patience)
	defer conn.Close()
	defer cancel()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	slots := make(chan struct{}, inFlight)
	buf := make([]byte, requestSize+1)
	for {
		n, _, flags, _, err := conn.ReadMsgUnix(buf, nil)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
				return nil
			}
			return fmt.Errorf("read the daemon's request: %w", err)
		}
		// Descriptors that come along are dropped by the kernel, and refused.
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return fmt.Errorf("%w: oversized, or with descriptors", errMalformed)
		}
		what, id, peer, err := parseRequest(buf[:n])
		if err != nil {
			return err
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			// A write fails only when the daemon is gone, and reading notices.
			_, _, _ = conn.WriteMsgUnix(answerTo(ctx, p, what, id, &peer), nil, nil)
		})
	}
}

func waitAtMost(wg *sync.WaitGroup, limit time.Duration) {
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
	}
}

// namer is what a prover may do besides; see Prover.Name.
type namer interface {
	Name(context.Context, *intercept.Peer) (intercept.Proof, error)
}

func answerTo(ctx context.Context, p intercept.Prover, what uint32, id uint64, peer *intercept.Peer) []byte {
	if what == askName {
		n, ok := p.(namer)
		if !ok {
			return appendNamed(nil, id, intercept.Proof{})
		}
		pr, err := n.Name(ctx, peer)
		if err != nil {
			return appendAnswer(nil, id, pr, err)
		}
		return appendNamed(nil, id, pr)
	}
	pr, err := p.Prove(ctx, peer)
	return appendAnswer(nil, id, pr, err)
}

// pair returns both ends of the line: a connection for the loader, a file to
// be inherited for the daemon.
func pair() (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(fds[1]), "daemon")
	ours, err := packetConn(os.NewFile(uintptr(fds[0]), "loader"))
	if err != nil {
		theirs.Close()
		return nil, nil, err
	}
	return ours, theirs, nil
}

// packetConn takes f over as a SOCK_SEQPACKET connection.
func packetConn(f *os.File) (*net.UnixConn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok || u.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, fmt.Errorf("descriptor %s is no SOCK_SEQPACKET socket", f.Name())
	}
	if err := u.SetWriteBuffer(4 * maxMessage); err != nil {
		u.Close()
		return nil, err
	}
	return u, nil
}
