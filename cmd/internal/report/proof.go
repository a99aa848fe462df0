package report

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/recorder"
)

// Chain is a host's chain, and the part of it that goes along in chain/.
type Chain struct {
	Host    string `json:"host"`
	Chain   string `json:"chain"`
	Records uint64 `json:"records"` // in the store
	Last    uint64 `json:"last"`
	Hash    string `json:"hash"`             // of the last record, hex
	File    string `json:"file"`             // in the bundle
	Logged  uint64 `json:"logged,omitempty"` // records that are proved to be in the transparency log
}

// chainFile names the file of the n-th chain, from 1.
func chainFile(n int) string { return fmt.Sprintf("chain/%03d.jsonl", n) }

func recordID(r *events.Record) string { return r.Chain + "-" + strconv.FormatUint(r.Seq, 10) }

// link is a line of a file of chain/: a record as it is hashed. Payload is there
// for the events that the report speaks of; of the others only their hash is.
type link struct {
	Seq      uint64  `json:"seq"`
	Kind     uint8   `json:"kind"`
	Protocol string  `json:"protocol,omitempty"`
	Session  string  `json:"session,omitempty"`
	Prev     string  `json:"prev"`
	Hash     string  `json:"hash"`
	Payload  *string `json:"payload,omitempty"` // JSON, as it was hashed
	Leaf     string  `json:"leaf,omitempty"`    // without a payload: of the record in its entry of the log, hex
}

// line writes a record as a line of its chain's file.
func line(r *events.Record, spoken bool, leaf string) ([]byte, error) {
	l := link{Seq: r.Seq, Kind: uint8(r.Kind), Prev: hex.EncodeToString(r.Prev[:]), Hash: hex.EncodeToString(r.Hash[:]), Leaf: leaf}
	if spoken {
		text := string(r.Payload)
		l.Protocol, l.Session, l.Payload = r.Protocol, r.Session, &text
	}
	b, err := json.Marshal(&l)
	return append(b, '\n'), err
}

// proofs writes the chains to a scratch file each, and with a log their entries.
type proofs struct {
	dir   string
	log   *Log // nil for none
	files map[[2]string]*proofFile
	order [][2]string
}

type proofFile struct {
	chain   scratch
	entries scratch // with a log
	logged  logged
}

// scratch is a file of a bundle that is being made.
type scratch struct {
	name string
	f    *os.File
	w    *bufio.Writer
}

func (p *proofs) scratch(name string) (scratch, error) {
	f, err := os.CreateTemp(p.dir, "chain-*")
	if err != nil {
		return scratch{}, err
	}
	return scratch{name, f, bufio.NewWriterSize(f, 64<<10)}, nil
}

// add writes a record, of which the report speaks or not. It returns how many more
// are proved to be in the log with it.
func (p *proofs) add(ctx context.Context, h *recorder.Held, spoken bool) (n int, err error) {
	r := &h.Record
	out, err := p.file(h.Host, r)
	if err != nil {
		return 0, err
	}
	leaf := ""
	if p.log != nil {
		var done *block
		if leaf, done, err = out.logged.take(ctx, h, spoken); err != nil {
			return 0, err
		}
		if done != nil {
			if err := done.write(out.entries.w); err != nil {
				return 0, err
			}
			n = done.N
		}
	}
	b, err := line(r, spoken, leaf)
	if err == nil {
		_, err = out.chain.w.Write(b)
	}
	return n, err
}

// later reports whether a record came after the log was looked at: it is left out.
func (p *proofs) later(host string, r *events.Record) (bool, error) {
	if p.log == nil {
		return false, nil
	}
	out := p.files[[2]string{host, r.Chain}]
	if out == nil {
		_, known := p.log.Places[recorder.Place{Host: host, Chain: r.Chain, First: r.Seq}]
		return !known, nil
	}
	return out.logged.later(r)
}

func (p *proofs) file(host string, r *events.Record) (out *proofFile, err error) {
	k := [2]string{host, r.Chain}
	if out = p.files[k]; out != nil {
		return out, nil
	}
	n := len(p.files) + 1
	out = &proofFile{logged: logged{log: p.log, host: host}}
	if out.chain, err = p.scratch(chainFile(n)); err != nil {
		return nil, err
	}
	p.files[k] = out
	p.order = append(p.order, k)
	if p.log != nil {
		out.entries, err = p.scratch(logFile(n))
	}
	return out, err
}

// all are the files, in the order of their names.
func (p *proofs) all() (out []scratch) {
	for _, k := range p.order {
		out = append(out, p.files[k].chain)
	}
	for _, k := range p.order {
		if p.log != nil {
			out = append(out, p.files[k].entries)
		}
	}
	return out
}

func (p *proofs) close() {
	for _, s := range p.all() {
		if s.f != nil {
			s.f.Close()
			os.Remove(s.f.Name())
		}
	}
}
