package redirect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/events"
)

// Birth is a network namespace in which a covered process made a socket while
// there was no passage. The process was in it at that moment.
type Birth struct {
	Netns uint64 // cookie
	TGID  uint32
	Start uint64 // of the process, ns since boot
}

// BirthReader reads the programs' reports of births, for the loader. One
// goroutine may read.
type BirthReader struct{ r *ringbuf.Reader }

// Births returns a reader. It ends with the Guard or with its own Close.
func (g *Guard) Births() (*BirthReader, error) {
	r, err := ringbuf.NewReader(g.maps.Births)
	if err != nil {
		return nil, fmt.Errorf("births: %w", err)
	}
	return &BirthReader{r}, nil
}

// Read waits for the next one. After Close it returns os.ErrClosed.
func (b *BirthReader) Read() (Birth, error) {
	rec, err := b.r.Read()
	if err != nil {
		if errors.Is(err, ringbuf.ErrClosed) {
			return Birth{}, os.ErrClosed
		}
		return Birth{}, fmt.Errorf("births: %w", err)
	}
	var raw bpf.GuardBirth
	if err := binary.Read(bytes.NewReader(rec.RawSample), binary.NativeEndian, &raw); err != nil {
		return Birth{}, fmt.Errorf("births: %w", err)
	}
	return Birth{Netns: raw.Netns, TGID: raw.Tgid, Start: raw.Start}, nil
}

// Close ends Read.
func (b *BirthReader) Close() error { return b.r.Close() }

// Namespace opens the network namespace of the process, if it is still the one
// that made the socket. It may have moved on to another: compare the cookie
// with that of what ListenIn returns.
func (b Birth) Namespace() (*os.File, error) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.TGID))
	if err != nil {
		return nil, err
	}
	if !alive(b.TGID, b.Start) {
		f.Close()
		return nil, fmt.Errorf("process %d: %w", b.TGID, os.ErrProcessDone)
	}
	return f, nil
}

// Repeats takes out of the programs what they have counted and not told: a
// door that was tried more often than once a second is reported once, and the
// rest comes from here once it is over, of at most so many doors. Call it every
// few seconds: what is not taken out keeps its place in the map.
func (g *Guard) Repeats(most int) ([]Bypass, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return nil, fmt.Errorf("repeats: %w", err)
	}
	now := uint64(ts.Nano())
	all, err := content[bpf.GuardRepeatKey, bpf.GuardRepeat](g.maps.Repeats)
	if err != nil {
		return nil, fmt.Errorf("repeats: %w", err)
	}
	var rest []Bypass
	var errs []error
	for k, seen := range all {
		if len(rest) >= most {
			break
		}
		if now < seen.Next {
			continue
		}
		var last bpf.GuardRepeat
		err := g.maps.Repeats.LookupAndDelete(k, &last)
		if errors.Is(err, ebpf.ErrKeyNotExist) {
			continue
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("repeats: %w", err))
			continue
		}
		if last.Count == 0 {
			continue
		}
		b := Bypass{
			Time: time.Now(), Reason: Reason(k.Reason), Destination: addrPort(k.Dst), Repeats: last.Count, Rest: true,
		}
		b.Peer.SockCgroup = k.Cgroup
		if k.Tgid != 0 && alive(k.Tgid, k.Start) {
			b.Process = describe(k.Tgid)
		} else if k.Tgid != 0 {
			b.Process = &events.Process{PID: k.Tgid, Start: k.Start}
		}
		rest = append(rest, b)
	}
	return rest, errors.Join(errs...)
}
