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
//
// Whom a proof is of, the kernel says: record reads it at the socket that comes
// along.
func serve(ctx context.Context, conn *net.UnixConn, p intercept.Prover, record Record) error {
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
	for buf := make([]byte, nameSize+1); ; {
		q, socket, err := readRequest(conn, buf)
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET) {
				return nil
			}
			return fmt.Errorf("read the daemon's request: %w", err)
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			if socket >= 0 {
				go unix.Close(socket)
			}
			return nil
		}
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			b := answerTo(ctx, p, record, &q, socket)
			// A write fails only when the daemon is gone, and reading notices.
			_, _, _ = conn.WriteMsgUnix(b, nil, nil)
		})
	}
}

// readRequest returns a request, and the socket that came with it: -1 where
// none belongs to it, or where the loader has no descriptor left. A descriptor
// of a taken-over daemon's can be of anything.
func readRequest(conn *net.UnixConn, buf []byte) (q request, socket int, err error) {
	oob := make([]byte, unix.CmsgSpace(4))
	n, on, flags, _, err := conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return q, -1, err
	}
	fds := descriptors(oob[:on])
	want := 0
	if q, err = parseRequest(buf[:n]); q.what == askProof {
		want = 1
	}
	none := len(fds) == 0 && flags&unix.MSG_CTRUNC != 0
	switch {
	case n == 0:
		err = io.EOF
	case err != nil:
	case none && want == 1:
		return q, -1, nil
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || len(fds) != want:
		err = fmt.Errorf("%w: oversized, or with other descriptors than belong to it", errMalformed)
	}
	switch {
	case err != nil:
		go closeFDs(fds) // which may hang: see answerTo
		return q, -1, err
	case want == 0:
		return q, -1, nil
	}
	return q, fds[0], nil
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

// Record returns the kernel's record of who made an accepted connection, by a
// descriptor of its socket. An error says that this is no such connection.
type Record func(socket int) (intercept.Peer, error)

// namer is what a prover may do besides; see Prover.Name.
type namer interface {
	Name(context.Context, *intercept.Peer) (intercept.Proof, error)
}

func answerTo(ctx context.Context, p intercept.Prover, record Record, q *request, socket int) []byte {
	if q.what == askName {
		n, ok := p.(namer)
		if !ok {
			return appendNamed(nil, q.id, intercept.Proof{})
		}
		pr, err := n.Name(ctx, &q.peer)
		if err != nil {
			return appendAnswer(nil, q.id, pr, err)
		}
		return appendNamed(nil, q.id, pr)
	}
	if socket < 0 {
		return appendAnswer(nil, q.id, intercept.Proof{}, errors.New("the loader has no descriptor left: raise its limit (LimitNOFILE=)"))
	}
	peer, err := record(socket)
	// Of a file on a file system that an agent serves even this can hang: the
	// request's own goroutine waits, and the daemon has inFlight of them.
	unix.Close(socket)
	if err != nil {
		return appendAnswer(nil, q.id, intercept.Proof{}, err)
	}
	pr, err := p.Prove(ctx, &peer)
	return appendAnswer(nil, q.id, pr, err)
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
