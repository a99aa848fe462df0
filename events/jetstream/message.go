package jetstream

import (
	"encoding/hex"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go"

	"sallyport.dev/sallyport/events"
)

// Headers of a message. Text is path-escaped, hashes are hex.
const (
	headerChain    = "Sallyport-Chain"
	headerKind     = "Sallyport-Kind" // "transcript" for chunks
	headerProtocol = "Sallyport-Protocol"
	// One for each record that the message holds, in the order of the payload:
	// number, length of its payload, session (empty for the host's own), hash of
	// the record before, its own hash.
	headerRecord = "Sallyport-Record"
	headerBatch  = "Sallyport-Batch" // an extent; of the shipper, for the shipper
)

const transcript = "transcript"

// Subject returns where a host's record is published:
// sallyport.audit.<host>.<protocol, or "host">.<kind> for an event and
// sallyport.transcript.<host>.<session> for a chunk.
func Subject(host string, r *events.Record) string {
	if r.Kind == 0 {
		return "sallyport.transcript." + host + "." + token(r.Session, "none")
	}
	return "sallyport.audit." + host + "." + token(r.Protocol, "host") + "." + r.Kind.String()
}

// token makes one token of a subject out of s.
func token(s, empty string) string {
	if s == "" {
		return empty
	}
	return strings.Map(func(c rune) rune {
		if c <= ' ' || c == 0x7f || c == '.' || c == '*' || c == '>' {
			return '_'
		}
		return c
	}, s)
}

// Parse reads a published message: the records it holds, in the order of the
// chain though not without gaps, and the host that published them. The host is
// the subject's, which NATS holds the publisher to. The records' hashes are not
// checked: see events.Record.Intact. Payloads borrow from data.
func Parse(subject string, h nats.Header, data []byte) (host string, rs []events.Record, err error) {
	host, rs, lengths, err := parseHead(subject, h)
	if err != nil {
		return host, nil, err
	}
	for i := range rs {
		n := lengths[i]
		switch last := i == len(rs)-1; {
		case n > len(data), last && n < len(data), !last && (n == len(data) || data[n] != '\n'):
			return host, nil, fmt.Errorf("jetstream: record %d has other bytes than its message says", rs[i].Seq)
		case last:
			rs[i].Payload = data
		default:
			rs[i].Payload, data = data[:n:n], data[n+1:]
		}
	}
	return host, rs, nil
}

// parseHead is Parse without the payloads, whose lengths it returns.
func parseHead(subject string, h nats.Header) (host string, rs []events.Record, lengths []int, err error) {
	parts := strings.SplitN(subject, ".", 4)
	if len(parts) != 4 || parts[0] != "sallyport" {
		return "", nil, nil, fmt.Errorf("jetstream: %q is no subject of a record", subject)
	}
	if host = parts[2]; len(host) > events.MaxName {
		return "", nil, nil, fmt.Errorf("jetstream: a host's name has %d bytes, and may have %d", len(host), events.MaxName)
	}
	var of events.Record
	if of.Kind, err = parseKind(h.Get(headerKind)); err != nil {
		return host, nil, nil, err
	}
	for name, to := range map[string]*string{headerChain: &of.Chain, headerProtocol: &of.Protocol} {
		if *to, err = url.PathUnescape(h.Get(name)); err != nil {
			return host, nil, nil, fmt.Errorf("jetstream: header %s: %w", name, err)
		}
	}
	lines := h.Values(headerRecord)
	if len(lines) == 0 || of.Chain == "" {
		return host, nil, nil, fmt.Errorf("jetstream: a message without %s or %s", headerRecord, headerChain)
	}
	rs, lengths = make([]events.Record, len(lines)), make([]int, len(lines))
	sessions := map[string]string{}
	for i, line := range lines {
		r := &rs[i]
		*r = of
		if lengths[i], err = parseRecord(r, line, sessions); err != nil {
			return host, nil, nil, err
		}
		if i > 0 && r.Seq <= rs[i-1].Seq {
			return host, nil, nil, fmt.Errorf("jetstream: record %d stands behind record %d", r.Seq, rs[i-1].Seq)
		}
		if i > 0 && r.Session == rs[i-1].Session {
			continue
		}
		if err := r.CheckNames(); err != nil {
			return host, nil, nil, fmt.Errorf("jetstream: %w", err)
		}
		if want := Subject(host, r); want != subject {
			return host, nil, nil, fmt.Errorf("jetstream: a record of chain %q on subject %q belongs on %q", r.Chain, subject, want)
		}
	}
	return host, rs, lengths, nil
}

// parseRecord reads a headerRecord into r, and returns its payload's length.
func parseRecord(r *events.Record, line string, sessions map[string]string) (length int, err error) {
	bad := func() error {
		return fmt.Errorf("jetstream: header %s %q: want number, length, session and two SHA-256", headerRecord, line[:min(len(line), 300)])
	}
	seq, rest, _ := strings.Cut(line, " ")
	size, rest, _ := strings.Cut(rest, " ")
	escaped, hashes, _ := strings.Cut(rest, " ")
	if len(hashes) != 64+1+64 || hashes[64] != ' ' {
		return 0, bad()
	}
	r.Seq, err = strconv.ParseUint(seq, 10, 63)
	if err != nil || r.Seq == 0 {
		return 0, bad()
	}
	if length, err = strconv.Atoi(size); err != nil || length < 0 {
		return 0, bad()
	}
	var b [64]byte
	copy(b[:], hashes)
	if _, err := hex.Decode(r.Prev[:], b[:]); err != nil {
		return 0, bad()
	}
	copy(b[:], hashes[65:])
	if _, err := hex.Decode(r.Hash[:], b[:]); err != nil {
		return 0, bad()
	}
	known, ok := sessions[escaped]
	if !ok {
		if known, err = url.PathUnescape(escaped); err != nil {
			return 0, bad()
		}
		sessions[escaped] = known
	}
	r.Session = known
	return length, nil
}

var kinds = func() map[string]events.Kind {
	m := map[string]events.Kind{transcript: 0}
	for k := events.Kind(1); k.String() != ""; k++ {
		m[k.String()] = k
	}
	return m
}()

func parseKind(s string) (events.Kind, error) {
	k, ok := kinds[s]
	if !ok {
		return 0, fmt.Errorf("jetstream: header %s %q: not a kind that this program knows", headerKind, s)
	}
	return k, nil
}
