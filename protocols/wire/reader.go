package wire

import (
	"fmt"
	"io"
	"syscall"
)

// Reader shows what has arrived on a connection. It belongs to one goroutine.
type Reader struct {
	src io.Reader
	raw syscall.RawConn            // nil: src cannot tell when it is readable
	try func(fd uintptr) (ok bool) // bound once: a closure per read would allocate

	pooled *[Size]byte // behind buf, nil when buf is of another size
	buf    []byte      // nil while the window is empty
	r, w   int

	n   int // of the latest try
	err error
}

// NewReader returns a Reader of src, which must not be read by others. Where
// src is a syscall.Conn (as net.TCPConn is) its descriptor is read from, so a
// wrapper that changes what is read must not be one.
func NewReader(src io.Reader) *Reader {
	r := &Reader{src: src}
	if c, ok := src.(syscall.Conn); ok {
		if raw, err := c.SyscallConn(); err == nil {
			r.raw, r.try = raw, r.tryRead
		}
	}
	return r
}

// Window returns the bytes that have arrived and were not passed over. It is
// borrowed until the next call on the Reader.
func (r *Reader) Window() []byte { return r.buf[r.r:r.w] }

// Advance passes over the first n bytes of the window. The window's slices
// may be used until the next Fill or Release even so.
func (r *Reader) Advance(n int) {
	if n < 0 || n > r.w-r.r {
		panic(fmt.Sprintf("wire: advance by %d in a window of %d", n, r.w-r.r))
	}
	r.r += n
}

// Fill waits until at least one more byte is in the window. At the end of the
// stream it returns io.EOF. A window that is empty costs no buffer while it
// waits; one that has no room left grows to the double: what a buffer costs
// follows what has arrived, not what was announced. The caller bounds it.
func (r *Reader) Fill() error {
	r.tidy()
	if r.w == len(r.buf) && len(r.buf) > 0 {
		r.resize(2 * len(r.buf))
	}
	if r.raw == nil {
		return r.fillPlain()
	}
	r.n, r.err = 0, nil
	if err := r.raw.Read(r.try); err != nil {
		r.tidy()
		return err
	}
	if r.err != nil {
		r.tidy()
		return r.err
	}
	r.w += r.n
	return nil
}

// tidy gives an empty window's buffer back and moves what is left to the
// front.
func (r *Reader) tidy() {
	if r.r == r.w {
		r.Release()
		return
	}
	if r.r > 0 {
		n := copy(r.buf, r.buf[r.r:r.w])
		spoil(r.buf[n:r.w])
		r.r, r.w = 0, n
	}
}

// tryRead is called by the runtime when the socket may be readable; false
// makes it wait.
func (r *Reader) tryRead(fd uintptr) bool {
	if r.buf == nil {
		r.borrow()
	}
	for {
		n, err := syscall.Read(int(fd), r.buf[r.w:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			if r.r == r.w {
				r.Release()
			}
			return false
		case err != nil:
			r.err = err
		case n == 0:
			r.err = io.EOF
		default:
			r.n = n
		}
		return true
	}
}

func (r *Reader) fillPlain() error {
	if r.buf == nil {
		r.borrow()
	}
	for range 100 {
		n, err := r.src.Read(r.buf[r.w:])
		r.w += n
		switch {
		case n > 0:
			return nil // an error comes again
		case err != nil:
			r.tidy()
			return err
		}
	}
	return io.ErrNoProgress
}

func (r *Reader) borrow() {
	r.pooled = Borrow()
	r.buf = r.pooled[:]
}

func (r *Reader) resize(n int) {
	b := make([]byte, n)
	w := copy(b, r.buf[r.r:r.w])
	r.r, r.w = 0, 0
	r.Release()
	r.buf, r.w = b, w
}

// Release gives the buffer back, and drops what is in the window.
func (r *Reader) Release() {
	if r.pooled != nil {
		Return(r.pooled)
	} else {
		spoil(r.buf)
	}
	r.pooled, r.buf, r.r, r.w = nil, nil, 0, 0
}

// Holds reports whether a buffer is held.
func (r *Reader) Holds() bool { return r.buf != nil }
