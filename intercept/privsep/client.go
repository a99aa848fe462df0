package privsep

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/intercept"
)

const lineFD = 3 // the daemon's end of the line to the loader

// ErrLoaderGone is returned once the line to the loader is cut. Nothing can
// be proved any more; the kernel ends the daemon with its loader.
var ErrLoaderGone = errors.New("the loader is gone: nobody can be proved")

// Client is the daemon's end of the line to the loader. It implements
// intercept.Prover.
type Client struct {
	conn *net.UnixConn

	mu      sync.Mutex
	next    uint64
	pending map[uint64]chan<- answer
	err     error // set once the line is cut
	done    chan struct{}
}

type answer struct {
	proof intercept.Proof
	err   error
}

// Dial takes the line that Start left at descriptor 3. Call it once.
func Dial() (*Client, error) {
	// Anything but a socket is somebody else's: leave it alone.
	if _, err := unix.GetsockoptInt(lineFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil {
		return nil, fmt.Errorf("descriptor %d is not the line to the loader (%w): the daemon is started by `sallyport run`, not by hand", lineFD, err)
	}
	conn, err := packetConn(os.NewFile(lineFD, "3"))
	if err != nil {
		return nil, fmt.Errorf("descriptor %d is not the line to the loader (%w): the daemon is started by `sallyport run`, not by hand", lineFD, err)
	}
	return newClient(conn), nil
}

func newClient(conn *net.UnixConn) *Client {
	c := &Client{conn: conn, pending: map[uint64]chan<- answer{}, done: make(chan struct{})}
	go c.read()
	return c
}

// Inherited returns the n files that Start was given, from descriptor 4 on.
// They are not inherited further. Call it once.
func Inherited(n int) ([]*os.File, error) {
	var fs []*os.File
	for i := range n {
		fd := lineFD + 1 + i
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, unix.FD_CLOEXEC); err != nil {
			return nil, fmt.Errorf("inherited descriptor %d: %w", fd, err)
		}
		fs = append(fs, os.NewFile(uintptr(fd), fmt.Sprintf("inherited-%d", fd)))
	}
	return fs, nil
}

// Prove implements intercept.Prover by showing the loader the peer's socket:
// it reads the kernel's record there itself, and takes nothing else of peer. A
// proof without a token is of a workload that needs none.
func (c *Client) Prove(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	if peer.Socket == nil {
		return intercept.Proof{}, errors.New("nobody can be proved without the connection itself")
	}
	rc, err := peer.Socket.SyscallConn()
	if err != nil {
		return intercept.Proof{}, fmt.Errorf("show the loader a connection: %w", err)
	}
	return c.ask(ctx, &request{what: askProof}, rc)
}

// Name asks the loader what Prover.Name says: whose process the kernel
// refused. It proves nothing.
func (c *Client) Name(ctx context.Context, peer *intercept.Peer) (intercept.Proof, error) {
	q := &request{what: askName, peer: *peer}
	if q.peer.CgroupID == 0 {
		q.peer.CgroupID = q.peer.SockCgroup // which does not travel
	}
	pr, err := c.ask(ctx, q, nil)
	pr.Token = nil
	return pr, err
}

// ask sends a request, with the descriptor of a socket unless that is nil, and
// waits for the answer.
func (c *Client) ask(ctx context.Context, q *request, socket syscall.RawConn) (intercept.Proof, error) {
	ch := make(chan answer, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return intercept.Proof{}, c.err
	}
	c.next++
	q.id = c.next
	c.pending[q.id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, q.id)
		c.mu.Unlock()
	}()
	if err := c.send(appendRequest(nil, q), socket); err != nil {
		return intercept.Proof{}, err
	}
	select {
	case a := <-ch:
		return a.proof, a.err
	case <-c.done:
		return intercept.Proof{}, c.err
	case <-ctx.Done():
		return intercept.Proof{}, fmt.Errorf("the loader did not answer: %w", ctx.Err())
	}
}

func (c *Client) send(b []byte, socket syscall.RawConn) (err error) {
	write := func(oob []byte) {
		if _, _, werr := c.conn.WriteMsgUnix(b, oob, nil); werr != nil {
			err = fmt.Errorf("%w (%v)", ErrLoaderGone, werr)
		}
	}
	if socket == nil {
		write(nil)
		return err
	}
	if cerr := socket.Control(func(fd uintptr) { write(unix.UnixRights(int(fd))) }); cerr != nil {
		return fmt.Errorf("show the loader a connection: %w", cerr)
	}
	return err
}

// Done is closed when the line is cut.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close hangs up.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	return err
}

func (c *Client) read() {
	err := c.readAll()
	c.conn.Close()
	c.mu.Lock()
	c.err = fmt.Errorf("%w (%v)", ErrLoaderGone, err)
	c.mu.Unlock()
	close(c.done)
}

func (c *Client) readAll() error {
	buf := make([]byte, maxMessage+1)
	for {
		n, _, flags, _, err := c.conn.ReadMsgUnix(buf, nil)
		if err != nil {
			return err
		}
		if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
			return errMalformed
		}
		id, proof, refused, err := parseAnswer(buf[:n])
		if err != nil {
			return err
		}
		c.mu.Lock()
		ch := c.pending[id]
		delete(c.pending, id)
		c.mu.Unlock()
		if ch != nil {
			ch <- answer{proof, refused}
		}
	}
}

var _ intercept.Prover = (*Client)(nil)
