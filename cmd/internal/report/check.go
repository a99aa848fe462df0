package report

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sallyport.dev/sallyport/events"
)

// ErrNoOutcome is what Check says of a bundle with an access whose outcome is in
// no record there. Nothing tells it from one whose outcome was taken out, except
// the archive's SHA-256.
var ErrNoOutcome = errors.New("no outcome is in the bundle")

// Checked is what Check found.
type Checked struct {
	SHA256  string // of the archive, hex
	Records int    // whose links were followed
	Proved  int    // whose hash was recomputed
	Claims  int    // accesses, refusals, approvals and notes that were made again of them
	Faults  int    // of the store, as the report says: what is not sound in it
}

// Check verifies a bundle offline: its files against the manifest, each chain from
// record to record, and the report by making it again of the chains, in all its
// forms. With want, the archive must have this SHA-256 (hex). Only that covers what
// is Given, and what was left out together with its content.
func Check(file, want string) (c Checked, err error) {
	bad := func(err error) (Checked, error) { return c, fmt.Errorf("report: %s: %w", file, err) }
	in, err := os.Open(file)
	if err != nil {
		return c, fmt.Errorf("report: %w", err)
	}
	defer in.Close()
	h := sha256.New()
	size, err := io.Copy(h, in)
	if err != nil {
		return bad(err)
	}
	if c.SHA256 = hex.EncodeToString(h.Sum(nil)); want != "" && !strings.EqualFold(want, c.SHA256) {
		return bad(fmt.Errorf("its SHA-256 is %s, not the one that was asked for", c.SHA256))
	}
	z, err := zip.NewReader(in, size)
	if err != nil {
		return bad(err)
	}
	files, err := unpack(z)
	if err != nil {
		return bad(err)
	}
	said, err := files.held("report.json")
	if err != nil {
		return bad(err)
	}
	var given struct {
		Given
		Chains []Chain `json:"chains"`
	}
	if err := json.Unmarshal(said, &given); err != nil {
		return bad(fmt.Errorf("report.json: %w", err))
	}
	g, err := given.normal()
	if err != nil {
		return bad(err)
	}
	m := newMaker(g)
	for i := range given.Chains {
		name := chainFile(i + 1)
		if err := files.read(name, func(in io.Reader) error { return follow(in, &given.Chains[i], &c, m) }); err != nil {
			return bad(err)
		}
	}
	m.finish()
	made, err := forms(m.Report)
	if err != nil {
		return bad(err)
	}
	for _, f := range made {
		is, err := files.held(f.name)
		if err != nil {
			return bad(err)
		}
		if !bytes.Equal(is, f.content) {
			return bad(fmt.Errorf("%s: line %d is not what the chains say (the bundle says that it was made by %q: verify with that version)", f.name, differ(is, f.content), g.Program))
		}
	}
	if len(files) != len(made)+len(m.Chains)+1 {
		return bad(errors.New("it has files that are of no report"))
	}
	for i := range m.Accesses {
		if a := &m.Accesses[i]; a.Outcome == "" && want == "" {
			return bad(fmt.Errorf("access %s: %w: it had not ended when the bundle was made, or its outcome was taken out; only the archive's SHA-256 tells (--sha256)", a.Record, ErrNoOutcome))
		}
	}
	c.Faults = len(m.Faults)
	c.Claims = len(m.Accesses) + len(m.Refused) + len(m.Approvals) + len(m.Policies) + len(m.Hosts)
	return c, nil
}

// differ is the first line, from 1, in which two texts that differ do.
func differ(a, b []byte) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return 1 + bytes.Count(a[:i], []byte("\n"))
}

// follow reads a chain, and has m make its part of the report of it.
func follow(in io.Reader, ch *Chain, c *Checked, m *maker) error {
	lines := eachLine(in)
	faults := len(m.Faults)
	var last events.Record
	for lines.Scan() {
		var l link
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("record %d: %w", last.Seq+1, err)
		}
		r := events.Record{Chain: ch.Chain, Seq: l.Seq, Kind: events.Kind(l.Kind), Protocol: l.Protocol, Session: l.Session}
		if l.Payload != nil {
			r.Payload = []byte(*l.Payload)
		}
		if !digest(&r.Prev, l.Prev) || !digest(&r.Hash, l.Hash) {
			return fmt.Errorf("record %d has no hash", last.Seq+1)
		}
		b, err := line(&r, l.Payload != nil)
		if err != nil {
			return err
		}
		switch {
		case r.Seq != last.Seq+1:
			return fmt.Errorf("record %d is missing", last.Seq+1)
		case r.Prev != last.Hash:
			return fmt.Errorf("record %d does not follow record %d", r.Seq, last.Seq)
		case !bytes.Equal(b, lines.Bytes()):
			return fmt.Errorf("record %d is not written as we write it", r.Seq)
		case l.Payload != nil && r.Sum() != r.Hash:
			return fmt.Errorf("record %d was changed", r.Seq)
		}
		c.Records++
		last = events.Record{Seq: r.Seq, Hash: r.Hash}
		m.link(ch.Host, &r)
		if l.Payload == nil {
			continue
		}
		c.Proved++
		if !m.record(ch.Host, &r) {
			return fmt.Errorf("record %d is not one that the report speaks of", r.Seq)
		}
		if len(m.Faults) > faults {
			return fmt.Errorf("record %d is of another host than the chain", r.Seq)
		}
	}
	return lines.Err()
}

func digest(to *[32]byte, s string) bool {
	b, err := hex.DecodeString(s)
	return err == nil && copy(to[:], b) == len(to) && len(b) == len(to)
}
