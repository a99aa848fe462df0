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

// Headers of a published record; the payload is the record's own. Text is
// path-escaped, hashes are hex.
const (
	headerChain    = "Sallyport-Chain"
	headerSeq      = "Sallyport-Seq"
	headerKind     = "Sallyport-Kind" // "transcript" for a chunk
	headerPrev     = "Sallyport-Prev"
	headerHash     = "Sallyport-Hash"
	headerProtocol = "Sallyport-Protocol"
	headerSession  = "Sallyport-Session"
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

func message(host string, r *events.Record) *nats.Msg {
	seq := strconv.FormatUint(r.Seq, 10)
	chain := url.PathEscape(r.Chain)
	kind := transcript
	if r.Kind != 0 {
		kind = r.Kind.String()
	}
	return &nats.Msg{Subject: Subject(host, r), Data: r.Payload, Header: nats.Header{
		nats.MsgIdHdr: {chain + "-" + seq},
		headerChain:   {chain}, headerSeq: {seq}, headerKind: {kind},
		headerPrev: {hex.EncodeToString(r.Prev[:])}, headerHash: {hex.EncodeToString(r.Hash[:])},
		headerProtocol: {url.PathEscape(r.Protocol)}, headerSession: {url.PathEscape(r.Session)},
	}}
}

// Parse reads a published record and the host that published it. The host is
// the subject's, which NATS holds the publisher to. The record's hash is not
// checked: see events.Record.Intact. Payload borrows from data.
func Parse(subject string, h nats.Header, data []byte) (host string, r events.Record, err error) {
	parts := strings.SplitN(subject, ".", 4)
	if len(parts) != 4 || parts[0] != "sallyport" {
		return "", r, fmt.Errorf("jetstream: %q is no subject of a record", subject)
	}
	host = parts[2]
	if r.Kind, err = parseKind(h.Get(headerKind)); err != nil {
		return host, r, err
	}
	if r.Seq, err = strconv.ParseUint(h.Get(headerSeq), 10, 63); err != nil || r.Seq == 0 {
		return host, r, fmt.Errorf("jetstream: header %s %q: want a number from 1", headerSeq, h.Get(headerSeq))
	}
	for name, to := range map[string]*[32]byte{headerPrev: &r.Prev, headerHash: &r.Hash} {
		v := h.Get(name)
		if n, err := hex.Decode(to[:], []byte(v[:min(len(v), 64)])); err != nil || n != 32 || len(v) != 64 {
			return host, r, fmt.Errorf("jetstream: header %s is no SHA-256", name)
		}
	}
	for name, to := range map[string]*string{headerChain: &r.Chain, headerProtocol: &r.Protocol, headerSession: &r.Session} {
		if *to, err = url.PathUnescape(h.Get(name)); err != nil {
			return host, r, fmt.Errorf("jetstream: header %s: %w", name, err)
		}
	}
	r.Payload = data
	if want := Subject(host, &r); r.Chain == "" || want != subject {
		return host, r, fmt.Errorf("jetstream: a record of chain %q on subject %q belongs on %q", r.Chain, subject, want)
	}
	return host, r, nil
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
