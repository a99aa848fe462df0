package redirect

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/ringbuf"
	"golang.org/x/sys/unix"

	"sallyport.dev/sallyport/bpf"
	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
)

// Reason says which door was tried. The zero Reason is none.
type Reason uint32

// The doors.
const (
	ReasonPacket     = Reason(bpf.GuardReasonREASON_PACKET)
	ReasonNoListener = Reason(bpf.GuardReasonREASON_NO_LISTENER)
	ReasonDatagram   = Reason(bpf.GuardReasonREASON_DATAGRAM)
	ReasonSocket     = Reason(bpf.GuardReasonREASON_SOCKET)
	ReasonBind       = Reason(bpf.GuardReasonREASON_BIND)
	ReasonDirect     = Reason(bpf.GuardReasonREASON_DIRECT)
	ReasonFull       = Reason(bpf.GuardReasonREASON_FULL)
	ReasonAlias      = Reason(bpf.GuardReasonREASON_ALIAS)
	ReasonInternal   = Reason(bpf.GuardReasonREASON_INTERNAL)
	ReasonUnix       = Reason(bpf.GuardReasonREASON_UNIX)

	// Of user space.
	ReasonSwept Reason = 100 // a connection older than the guard: destroyed
	ReasonLost  Reason = 101 // reports could not be kept: see Repeats
)

var reasons = map[Reason]string{
	ReasonPacket:     "packet to a protected destination dropped: it did not come through the passage",
	ReasonNoListener: "connection refused: there is no passage in its network namespace (is the daemon running?)",
	ReasonDatagram:   "datagram to a protected destination refused",
	ReasonSocket:     "raw, SCTP or DCCP socket refused",
	ReasonBind:       "attempt to take the passage's port refused",
	ReasonDirect:     "attempt to dial the passage directly refused",
	ReasonFull:       "connection not handed over: too many are waiting",
	ReasonAlias:      "connection to another local address of a protected destination refused",
	ReasonInternal:   "connection refused: the kernel had no room for its record",
	ReasonUnix:       "connection to a unix socket that is not allowed refused",
	ReasonSwept:      "connection older than the guard destroyed",
	ReasonLost:       "reports of dropped packets and refused calls were lost: more came than could be kept",
}

// String returns the event's message.
func (r Reason) String() string {
	if s := reasons[r]; s != "" {
		return s
	}
	return fmt.Sprintf("unknown reason %d", uint32(r))
}

// Bypass is one attempt to go round the passage, which failed.
type Bypass struct {
	Time   time.Time
	Reason Reason
	// Process is who did it. For a packet that the kernel sent on its own (a
	// retransmission) it is nil: Peer then holds only the socket's cgroup, uid
	// and network namespace.
	Process     *events.Process
	Peer        intercept.Peer
	Source      netip.AddrPort // of a packet, else zero
	Destination netip.AddrPort // the protected one
	Transport   string         // "tcp", "udp", "sctp", ..., "ip" with an unknown number
	Bytes       int            // of the packet
	Repeats     uint64         // like ones before it that were not reported
	Rest        bool           // it stands for the Repeats alone
}

// Event is the record of the attempt: a Bypass, or an Alarm where reports
// themselves were lost.
func (b *Bypass) Event() events.Event {
	e := events.Event{
		Kind: events.Bypass, Time: b.Time, Verdict: events.Blocked, Message: b.Reason.String(),
		Process: b.Process, Source: b.Source, Destination: b.Destination, Transport: b.Transport, Bytes: int64(b.Bytes),
	}
	if b.Reason == ReasonLost {
		e.Kind = events.Alarm
	}
	if b.Rest {
		e.Message += fmt.Sprintf(" (%d more)", b.Repeats)
	} else if b.Repeats > 0 {
		e.Message += fmt.Sprintf(" (%d more before it)", b.Repeats)
	}
	if e.Process == nil && b.Peer.SockCgroup != 0 {
		e.Process = processOf(&b.Peer) // what its socket tells: uid, not pid
	}
	return e
}

// BypassReader reads the programs' reports from the ring buffer. It works on
// an inherited descriptor, without capabilities; make it before a seccomp
// filter forbids bpf(2) and mmap of it. One goroutine may read.
type BypassReader struct {
	m        *ebpf.Map
	r        *ringbuf.Reader
	rec      ringbuf.Record
	boot     time.Time // when the clock of reports was 0
	unkept   uint64    // reports known not to have been kept
	deferred *Bypass   // read, but told only after the loss before it
}

// NewBypassReader takes over fd, a duplicate of Guard.ReportsFD.
func NewBypassReader(fd int) (*BypassReader, error) {
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil, fmt.Errorf("reports: %w", err)
	}
	r, err := ringbuf.NewReader(m)
	if err != nil {
		m.Close()
		return nil, fmt.Errorf("reports: %w", err)
	}
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		r.Close()
		m.Close()
		return nil, fmt.Errorf("reports: boot time: %w", err)
	}
	return &BypassReader{m: m, r: r, boot: time.Now().Add(-time.Duration(ts.Nano()))}, nil
}

// Read waits for the next report. After Close it returns os.ErrClosed.
func (b *BypassReader) Read() (Bypass, error) {
	if d := b.deferred; d != nil {
		b.deferred = nil
		return *d, nil
	}
	if err := b.r.ReadInto(&b.rec); err != nil {
		if errors.Is(err, ringbuf.ErrClosed) {
			return Bypass{}, err
		}
		return Bypass{}, fmt.Errorf("reports: %w", err)
	}
	report, err := parseReport(b.rec.RawSample)
	if err != nil {
		return Bypass{}, err
	}
	by := bypassOf(&report, b.boot)
	if unkept := report.Lost + report.Suppressed; unkept > b.unkept {
		lost := Bypass{Time: by.Time, Reason: ReasonLost, Repeats: unkept - b.unkept}
		b.unkept, b.deferred = unkept, &by
		return lost, nil
	}
	return by, nil
}

// Close ends Read.
func (b *BypassReader) Close() error { return errors.Join(b.r.Close(), b.m.Close()) }

func parseReport(raw []byte) (r bpf.GuardReport, err error) {
	if len(raw) < int(unsafe.Sizeof(r)) {
		return r, fmt.Errorf("reports: one of %d bytes: %w", len(raw), ErrLayout)
	}
	if err := binary.Read(bytes.NewReader(raw), binary.NativeEndian, &r); err != nil {
		return r, fmt.Errorf("reports: %w", err)
	}
	return r, nil
}

func bypassOf(r *bpf.GuardReport, boot time.Time) Bypass {
	b := Bypass{
		Time:        boot.Add(time.Duration(r.Time)),
		Reason:      Reason(r.Reason),
		Peer:        peerOf(&r.Who),
		Destination: addrPort(r.Who.Dst),
		Transport:   transport(r.Proto),
		Bytes:       int(r.Length),
		Repeats:     uint64(r.Repeats),
	}
	if r.Known != 0 {
		b.Process = processOf(&b.Peer)
	}
	decode(&b, r.Head[:min(int(r.Captured), len(r.Head))])
	return b
}

func processOf(p *intercept.Peer) *events.Process {
	return &events.Process{PID: p.TGID, Start: p.Start, UID: p.UID, GID: p.GID, Exe: p.Exe, Cgroup: p.Cgroup, Comm: p.Comm}
}
