package report

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"sallyport.dev/sallyport/events"
)

// Chain is a host's chain, and the part of it that goes along in chain/.
type Chain struct {
	Host    string `json:"host"`
	Chain   string `json:"chain"`
	Records uint64 `json:"records"` // in the store
	Last    uint64 `json:"last"`
	Hash    string `json:"hash"` // of the last record, hex
	File    string `json:"file"` // in the bundle
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
}

// line writes a record as a line of its chain's file.
func line(r *events.Record, spoken bool) ([]byte, error) {
	l := link{Seq: r.Seq, Kind: uint8(r.Kind), Prev: hex.EncodeToString(r.Prev[:]), Hash: hex.EncodeToString(r.Hash[:])}
	if spoken {
		text := string(r.Payload)
		l.Protocol, l.Session, l.Payload = r.Protocol, r.Session, &text
	}
	b, err := json.Marshal(&l)
	return append(b, '\n'), err
}

// proofs writes the chains to a scratch file each.
type proofs struct {
	dir   string
	files map[[2]string]*proofFile
	order [][2]string
}

type proofFile struct {
	name string
	f    *os.File
	w    *bufio.Writer
}

func (p *proofs) add(host string, r *events.Record, spoken bool) error {
	k := [2]string{host, r.Chain}
	out := p.files[k]
	if out == nil {
		f, err := os.CreateTemp(p.dir, "chain-*")
		if err != nil {
			return err
		}
		out = &proofFile{chainFile(len(p.files) + 1), f, bufio.NewWriterSize(f, 64<<10)}
		p.files[k] = out
		p.order = append(p.order, k)
	}
	b, err := line(r, spoken)
	if err == nil {
		_, err = out.w.Write(b)
	}
	return err
}

func (p *proofs) close() {
	for _, f := range p.files {
		f.f.Close()
		os.Remove(f.f.Name())
	}
}
