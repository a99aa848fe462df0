package privsep

import (
	"encoding/binary"
	"errors"
	"fmt"

	"sallyport.dev/sallyport/intercept"
)

// One packet of a SOCK_SEQPACKET socket is one message; integers are
// little-endian, strings have a 32-bit length before them.
//
//	request: magic u32, what u32, id u64; a proof's has the accepted socket's
//	         descriptor with it, a name's has: tgid u32, pid u32, start u64,
//	         pid inode u64, uid u32, gid u32, cgroup u64, exe device u64,
//	         exe inode u64
//	answer:  magic u32, status u32, id u64, strings
const (
	magicRequest = 0x32515053 // "SPQ2"
	magicAnswer  = 0x31415053 // "SPA1"
	magicEnter   = 0x31455053 // "SPE1"

	askProof = 1 // answered with statusOK
	askName  = 2 // with statusNamed

	statusOK      = 1 // strings: workload, exe, cgroup, token; empty for a workload that needs none
	statusRefused = 2 // strings: reason
	statusNamed   = 3 // strings: workload, exe, cgroup; each may be empty

	headSize  = 16 // the whole of a request for a proof
	nameSize  = 72
	maxString = 4096
	// MaxToken is the largest token file that is read, in bytes.
	MaxToken   = 64 << 10
	maxMessage = headSize + 5*4 + 3*maxString + 2*MaxToken
)

var errMalformed = errors.New("privsep: malformed message")

// request is what the daemon asks. A proof is asked for with the connection
// itself, so that peer is of askName alone: what the daemon says of a process
// names it and proves nothing.
type request struct {
	what uint32
	id   uint64
	peer intercept.Peer
}

func appendRequest(b []byte, q *request) []byte {
	le, p := binary.LittleEndian, &q.peer
	b = appendHead(b, magicRequest, q.what, q.id)
	if q.what == askProof {
		return b
	}
	b = le.AppendUint32(b, p.TGID)
	b = le.AppendUint32(b, p.PID)
	b = le.AppendUint64(b, p.Start)
	b = le.AppendUint64(b, p.PidInode)
	b = le.AppendUint32(b, p.UID)
	b = le.AppendUint32(b, p.GID)
	b = le.AppendUint64(b, p.CgroupID)
	b = le.AppendUint64(b, p.ExeDev)
	return le.AppendUint64(b, p.ExeInode)
}

func parseRequest(b []byte) (q request, err error) {
	le := binary.LittleEndian
	if len(b) >= headSize && le.Uint32(b) == magicRequest {
		q.what, q.id = le.Uint32(b[4:]), le.Uint64(b[8:])
	}
	switch {
	case q.what == askProof && len(b) == headSize:
		return q, nil
	case q.what != askName || len(b) != nameSize:
		return request{}, fmt.Errorf("%w: %d bytes are no request", errMalformed, len(b))
	}
	q.peer = intercept.Peer{
		TGID: le.Uint32(b[16:]), PID: le.Uint32(b[20:]),
		Start: le.Uint64(b[24:]), PidInode: le.Uint64(b[32:]),
		UID: le.Uint32(b[40:]), GID: le.Uint32(b[44:]),
		CgroupID: le.Uint64(b[48:]), ExeDev: le.Uint64(b[56:]), ExeInode: le.Uint64(b[64:]),
	}
	return q, nil
}

func appendHead(b []byte, magic, status uint32, id uint64) []byte {
	b = binary.LittleEndian.AppendUint32(b, magic)
	b = binary.LittleEndian.AppendUint32(b, status)
	return binary.LittleEndian.AppendUint64(b, id)
}

// appendString adds a string, cut at limit: only reasons can be that long.
func appendString[T string | []byte](b []byte, s T, limit int) []byte {
	if len(s) > limit {
		s = s[:limit]
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

func appendAnswer(b []byte, id uint64, pr intercept.Proof, err error) []byte {
	if err == nil && max(len(pr.Workload), len(pr.Exe), len(pr.Cgroup)) > maxString || max(len(pr.Token), len(pr.Person)) > MaxToken {
		err = fmt.Errorf("privsep: a name of workload %.64q is longer than %d bytes", pr.Workload, maxString)
	}
	if err != nil {
		b = appendHead(b, magicAnswer, statusRefused, id)
		return appendString(b, err.Error(), maxString)
	}
	b = appendHead(b, magicAnswer, statusOK, id)
	b = appendString(b, pr.Workload, maxString)
	b = appendString(b, pr.Exe, maxString)
	b = appendString(b, pr.Cgroup, maxString)
	b = appendString(b, pr.Token, MaxToken)
	return appendString(b, pr.Person, MaxToken)
}

// appendNamed is the answer to askName, which proves nothing.
func appendNamed(b []byte, id uint64, pr intercept.Proof) []byte {
	b = appendHead(b, magicAnswer, statusNamed, id)
	b = appendString(b, pr.Workload, maxString)
	b = appendString(b, pr.Exe, maxString)
	return appendString(b, pr.Cgroup, maxString)
}

// parseAnswer returns the refusal in refused; err means a broken message.
func parseAnswer(b []byte) (id uint64, pr intercept.Proof, refused, err error) {
	r := reader{b: b}
	magic, status := r.u32(), r.u32()
	id = r.u64()
	switch {
	case magic != magicAnswer:
		r.bad = true
	case status == statusOK:
		pr.Workload, pr.Exe, pr.Cgroup = r.text(maxString), r.text(maxString), r.text(maxString)
		pr.Token = []byte(r.text(MaxToken))
		if person := r.text(MaxToken); person != "" {
			pr.Person = []byte(person)
		}
	case status == statusNamed:
		pr.Workload, pr.Exe, pr.Cgroup = r.text(maxString), r.text(maxString), r.text(maxString)
	case status == statusRefused:
		refused = errors.New(r.text(maxString))
	default:
		r.bad = true
	}
	if !r.done() || status == statusOK && pr.Workload == "" {
		return 0, intercept.Proof{}, nil, errMalformed
	}
	return id, pr, refused, nil
}

// enter is what sallyport exec asks: the token files' descriptors come along.
type enter struct{ name, tokenFile, personFile string }

func appendEnter(b []byte, e enter) []byte {
	b = binary.LittleEndian.AppendUint32(b, magicEnter)
	b = appendString(b, e.name, maxString)
	b = appendString(b, e.tokenFile, maxString)
	return appendString(b, e.personFile, maxString)
}

func parseEnter(b []byte) (enter, error) {
	r := reader{b: b}
	if r.u32() != magicEnter {
		r.bad = true
	}
	e := enter{name: r.text(64), tokenFile: r.text(maxString), personFile: r.text(maxString)}
	if !r.done() {
		return enter{}, errMalformed
	}
	return e, nil
}

func appendEntered(b []byte, cgroup string, err error) []byte {
	if err != nil {
		return appendString(appendHead(b, magicEnter, statusRefused, 0), err.Error(), maxString)
	}
	return appendString(appendHead(b, magicEnter, statusOK, 0), cgroup, maxString)
}

func parseEntered(b []byte) (cgroup string, refused, err error) {
	r := reader{b: b}
	magic, status := r.u32(), r.u32()
	r.u64()
	s := r.text(maxString)
	if !r.done() || magic != magicEnter || status != statusOK && status != statusRefused {
		return "", nil, errMalformed
	}
	if status == statusRefused {
		return "", errors.New(s), nil
	}
	return s, nil, nil
}

// reader takes a message apart; after the first mistake it gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) u32() uint32 {
	if p := r.take(4); p != nil {
		return binary.LittleEndian.Uint32(p)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if p := r.take(8); p != nil {
		return binary.LittleEndian.Uint64(p)
	}
	return 0
}

func (r *reader) text(limit int) string {
	n := r.u32()
	if n > uint32(limit) {
		r.bad = true
		return ""
	}
	return string(r.take(int(n)))
}

// done reports whether the whole message was understood.
func (r *reader) done() bool { return !r.bad && len(r.b) == 0 }
