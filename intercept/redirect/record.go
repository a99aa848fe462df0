package redirect

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/intercept"
)

// sidePassage is SIDE_PASSAGE of the programs: the record came with an accepted
// socket.
const sidePassage = uint32(bpf.StreamSideSIDE_PASSAGE)

// Record returns who made an accepted connection, from the kernel's own map:
// what Facts tells the daemon, for a loader that takes nobody's word. fd is a
// descriptor of the accepted socket, whoever passed it here; of a unix socket
// the daemon has asked for UnixFacts before. ErrStray: the socket has no
// record, or is no socket.
func (g *Guard) Record(fd int) (intercept.Peer, error) {
	family, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return intercept.Peer{}, fmt.Errorf("%w (%v)", ErrStray, err)
	}
	var r *bpf.GuardRecord
	switch {
	case family != unix.AF_UNIX:
		var o bpf.GuardOrigin
		err = g.maps.Origins.Lookup(int32(fd), &o)
		r = &o.Record
	case g.unix == nil:
		err = errors.New("the kernel has no records of unix sockets")
	default:
		var l bpf.UnixLocal
		err = g.unix.Locals.Lookup(int32(fd), &l)
		r = (*bpf.GuardRecord)(unsafe.Pointer(&l.Record)) // struct record too
	}
	switch {
	case err != nil:
		return intercept.Peer{}, fmt.Errorf("%w (%v)", ErrStray, err)
	case r.Side != sidePassage:
		return intercept.Peer{}, fmt.Errorf("%w (it is no accepted one)", ErrStray)
	case r.Layout != layout:
		return intercept.Peer{}, fmt.Errorf("%w (the record has layout %d)", ErrLayout, r.Layout)
	}
	return peerOf(r), nil
}
