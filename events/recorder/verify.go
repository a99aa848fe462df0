package recorder

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"iter"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/events/ocsf"
)

// Fault names the first record of a chain that is not what it must be.
type Fault struct {
	Host  string `json:"host"`
	Chain string `json:"chain"`
	Seq   uint64 `json:"seq"`
	// What: removed, changed, reordered, inserted, cut (removed from the end),
	// hidden (not among its session's records), misstated (its session's line in
	// the list is not what the records say), forged or
	// unsigned (by the host), unlogged (for long), invented (a line without records;
	// Chain is ""), or altered (the store's file, where Host is "" too, or what it
	// notes beside the records).
	What   string `json:"what"`
	Detail string `json:"detail"`
}

func (f Fault) String() string {
	if f.Chain == "" {
		return strings.TrimPrefix(fmt.Sprintf("host %s: %s: %s", f.Host, f.What, f.Detail), "host : ")
	}
	return fmt.Sprintf("host %s, chain %s: record %d was %s: %s", f.Host, f.Chain, f.Seq, f.What, f.Detail)
}

// ChainReport is what Verify found of one chain.
type ChainReport struct {
	Host    string `json:"host"`
	Chain   string `json:"chain"`
	Records uint64 `json:"records"`
	Last    uint64 `json:"last"`
	Hash    string `json:"hash"` // of the last record, hex: keep it to have the next Verify find a cut
	Waiting uint64 `json:"waiting,omitempty"`
	Signed  uint64 `json:"signed"`           // the newest record that the host signed; 0: none
	Signer  string `json:"signer,omitempty"` // the key that it did it with: see events.HostKeyLine
	// VouchedBy is the SPIFFE ID that vouched for that key, where Noted.Vouch has a rule;
	// VouchedIn the checkpoint that says it.
	VouchedBy string `json:"vouched_by,omitempty"`
	VouchedIn uint64 `json:"vouched_in,omitempty"`
}

// Report is the result of Verify. It is sound when there are no Faults.
type Report struct {
	Chains []ChainReport `json:"chains"`
	Faults []Fault       `json:"faults"` // the first of the file, of each chain, of the alarms, of the list of sessions and of the log
	Alarms []Alarm       `json:"alarms"` // raised while recording: the newest thousand
	Alarm  AlarmHead     `json:"alarm"`  // the newest: its id is how many there are, acts among them
	Log    *LogReport    `json:"log,omitempty"`

	Transcripts TranscriptReport `json:"transcripts"` // those that are kept apart
	// Acts are holds, their releases and deletions, which are numbered with the alarms.
	Acts int64 `json:"acts,omitempty"`
}

// Noted is what was seen of a store earlier, and must be there still.
type Noted struct {
	Heads []Head
	Alarm *AlarmHead // nil: nothing was noted
	Log   *Logged    // the transparency log; nil: it is not looked at
	// Keys are those of the hosts; nil: the first one that a chain names is trusted.
	Keys events.HostKeys
	// Vouch has the key of a host that Keys does not name be the one that an identity
	// vouched for at the checkpoint's own time; nil: none may.
	Vouch Voucher
}

const reportedAlarms = 1000

// Verify walks every chain of a store from its first record, recomputes each
// hash, and names the first record of each chain that was removed, changed,
// reordered, inserted or hidden from its session. Heads that were noted elsewhere (an earlier report, a
// host's journal, a receipt) show a chain that was cut, or made anew.
//
// It holds the list of sessions against the records, and the alarms against
// each other. Before that the file: of one with another schema than its own, or
// whose indexes lie, what it answers means nothing, and no more is read.
func Verify(ctx context.Context, s *DB, noted Noted) (Report, error) {
	rep := Report{Faults: []Fault{}}
	expect := noted.Heads
	// One snapshot: a recorder may be at work.
	tx, err := s.read(ctx)
	if err != nil {
		return rep, fmt.Errorf("recorder: verify: %w", err)
	}
	defer tx.Rollback()
	switch f, err := s.verifyFile(ctx, tx); {
	case err != nil:
		return rep, fmt.Errorf("recorder: verify: %w", err)
	case f != nil:
		rep.Faults = append(rep.Faults, *f)
		return rep, nil
	}
	ends, err := chainEnds(ctx, tx)
	if err != nil {
		return rep, fmt.Errorf("recorder: verify: %w", err)
	}
	list := newListing(ctx, tx)
	defer list.close()
	unsound := map[string]bool{}
	known := map[[2]string]bool{}
	for _, h := range expect {
		k := [2]string{h.Host, h.Chain}
		if _, ok := ends[k]; !ok && !known[k] {
			rep.Faults = append(rep.Faults, Fault{h.Host, h.Chain, 1, "removed", "the whole chain is gone"})
			unsound[h.Host] = true
		}
		known[k] = true
	}
	keys := slices.SortedFunc(maps.Keys(ends), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	for i, k := range keys {
		w := walker{apart: s.apart, found: &rep.Transcripts, ctx: ctx, tx: tx, list: list, host: k[0], chain: k[1], end: ends[k], expect: map[uint64][32]byte{}, glance: &s.glance, signs: newSignatures(&noted, k[0])}
		for _, h := range expect {
			if h.Host == w.host && h.Chain == w.chain {
				w.expect[h.Seq] = h.Hash
			}
		}
		if w.late, err = lateOnes(ctx, tx, w.host, w.chain); err != nil {
			return rep, fmt.Errorf("recorder: verify: %w", err)
		}
		cr, err := w.walk()
		if err == nil && w.fault == nil && !unsound[w.host] {
			last := i+1 == len(keys) || keys[i+1][0] != w.host
			err = list.rest(&w, last)
		}
		if err != nil {
			return rep, fmt.Errorf("recorder: verify: %w", err)
		}
		rep.Chains = append(rep.Chains, cr)
		if w.fault != nil {
			rep.Faults = append(rep.Faults, *w.fault)
			unsound[w.host] = true
		}
		if i+1 == len(keys) || keys[i+1][0] != w.host {
			clear(list.open)
		}
	}
	more := func(f *Fault, err error) error {
		if err != nil {
			return fmt.Errorf("recorder: verify: %w", err)
		}
		if f != nil {
			rep.Faults = append(rep.Faults, *f)
		}
		return nil
	}
	if err := more(list.invented(tx, unsound)); err != nil {
		return rep, err
	}
	var f *Fault
	rep.Alarm, f, err = verifyAlarms(ctx, tx, noted.Alarm)
	if err := more(f, err); err != nil {
		return rep, err
	}
	if noted.Log != nil {
		rep.Log, f, err = verifyLog(ctx, tx, noted.Log)
		if err := more(f, err); err != nil {
			return rep, err
		}
	}
	if len(rep.Faults) == 0 { // else what is beside the records follows from what is wrong with them
		if err := more(verifyBeside(ctx, tx, time.Now())); err != nil {
			return rep, err
		}
	}
	if err := tx.QueryRowContext(ctx, `SELECT count(*) FROM alarms WHERE `+isAct).Scan(&rep.Acts); err != nil {
		return rep, fmt.Errorf("recorder: verify: %w", err)
	}
	rep.Alarms, err = readAlarms(ctx, tx, `SELECT * FROM (SELECT id, time, host, chain, seq, what, detail FROM alarms WHERE NOT `+isAct+` ORDER BY id DESC LIMIT ?) AS newest ORDER BY id`, reportedAlarms)
	return rep, more(nil, err)
}

// end is what the store says of a chain beside its records.
type end struct {
	seq    uint64
	hash   []byte
	proved uint64 // the newest record with none missing before it: hosts hold a receipt for it
	proof  []byte // its hash
	listed bool
}

func chainEnds(ctx context.Context, tx *sql.Tx) (map[[2]string]end, error) {
	ends := map[[2]string]end{}
	rows, err := tx.QueryContext(ctx, `SELECT b.host, b.chain, c.head_seq, c.head_hash, c.proved_seq, c.proved_hash
		FROM (SELECT host, chain FROM chains UNION SELECT host, chain FROM blocks) b LEFT JOIN chains c ON c.host = b.host AND c.chain = b.chain`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var k [2]string
		var e end
		var seq, proved sql.NullInt64
		if err := rows.Scan(&k[0], &k[1], &seq, &e.hash, &proved, &e.proof); err != nil {
			return nil, err
		}
		e.seq, e.proved, e.listed = uint64(seq.Int64), uint64(proved.Int64), seq.Valid
		ends[k] = e
	}
	return ends, rows.Err()
}

type walker struct {
	apart       *Transcripts
	found       *TranscriptReport
	ctx         context.Context
	tx          *sql.Tx
	list        *listing
	host, chain string
	end         end
	expect      map[uint64][32]byte
	late        map[uint64]bool // records that came late
	glance      *ocsf.Glancer
	looks       []looker
	gists       []gist // of the records of a block
	signs       signatures

	rep   ChainReport
	prev  [32]byte
	fault *Fault
}

// bad notes the first fault.
func (w *walker) bad(seq uint64, what, format string, args ...any) {
	if w.fault == nil {
		w.fault = &Fault{w.host, w.chain, seq, what, fmt.Sprintf(format, args...)}
	}
}

func (w *walker) walk() (ChainReport, error) {
	w.rep = ChainReport{Host: w.host, Chain: w.chain}
	if err := w.signs.note(w); err != nil {
		return w.rep, err
	}
	for b, err := range w.blocks(math.MinInt64) {
		if err == nil && !b.placed() {
			w.bad(uint64(max(b.first, 0)), "inserted", "a block that says it holds records %d to %d", b.first, b.last)
			continue
		}
		if err == nil {
			err = w.bodies(&b)
		}
		if err == nil {
			w.read(&b)
		}
		for i := 0; err == nil && i < len(b.records); i++ {
			err = w.record(&b.records[i], &w.gists[i])
		}
		if b.err != nil {
			w.bad(uint64(b.first), "changed", "%v", b.err)
		}
		if err == nil && w.fault == nil {
			err = w.shown(&b)
		}
		if err != nil {
			return w.rep, err
		}
	}
	w.rep.Hash = hex.EncodeToString(w.prev[:])
	w.signs.end(w)
	switch last := w.rep.Last; {
	case !w.end.listed:
		w.bad(1, "inserted", "the store's list of chains does not have this one")
	case last < w.end.seq:
		w.bad(last+1, "cut", "%s from the end", missing(last+1, w.end.seq))
	case last < w.end.proved:
		w.bad(last+1, "cut", "%s from the end: there is a receipt for %d", missing(last+1, w.end.proved), w.end.proved)
	case last > 0 && string(w.end.hash) != string(w.prev[:]):
		w.bad(last, "changed", "the recorder noted another hash for it")
	case last > w.end.proved:
		w.bad(w.end.proved+1, "altered", "no record is missing in front of it, and the store notes that one is: its host would get no receipt for it")
	}
	for _, seq := range slices.Sorted(maps.Keys(w.expect)) {
		if seq > w.rep.Last {
			w.bad(w.rep.Last+1, "cut", "%s from the end: the chain was seen with %d", missing(w.rep.Last+1, seq), seq)
		}
	}
	err := w.tx.QueryRowContext(w.ctx, `SELECT coalesce(sum(n), 0) FROM ahead WHERE host = ? AND chain = ?`, w.host, w.chain).Scan(&w.rep.Waiting)
	return w.rep, err
}

// record judges one; of one that is blind its place alone.
func (w *walker) record(r *events.Record, g *gist) error {
	w.rep.Records++
	want := w.rep.Last + 1
	switch {
	case w.fault != nil: // the first one is named; the rest is counted
	case w.end.listed && r.Seq > w.end.seq:
		w.bad(r.Seq, "inserted", "the recorder stored %d records", w.end.seq)
	case r.Seq < want:
		w.bad(r.Seq, "inserted", "another row holds record %d as well", r.Seq)
	case r.Seq != want:
		w.bad(want, "removed", "%s", missing(want, r.Seq-1))
	case g.blind && r.Prev != w.prev:
		w.bad(max(r.Seq, 2)-1, "changed", "record %d follows another record %d than this", r.Seq, r.Seq-1)
	case g.sum != r.Hash || r.Prev != w.prev:
		seq, what, why, err := w.classify(r, w.prev)
		if err != nil {
			return err
		}
		w.bad(seq, what, "%s", why)
	}
	if r.Seq == w.end.proved && string(w.end.proof) != string(r.Hash[:]) {
		w.bad(r.Seq, "changed", "its hash is %x, and the receipt for it says %x", r.Hash, w.end.proof)
	}
	if h, ok := w.expect[r.Seq]; ok && h != r.Hash {
		w.bad(r.Seq, "changed", "its hash is %x, and was noted as %x", r.Hash, h)
	}
	if w.fault == nil {
		w.signs.record(w, r, g)
	}
	w.rep.Last, w.prev = r.Seq, r.Hash
	return nil
}

// shown checks that the sessions of a block's records list them: else they
// would be there, and nobody would be shown them.
func (w *walker) shown(b *storedBlock) error {
	spans, order := map[string]span{}, []string(nil)
	for i := range b.records {
		r := &b.records[i]
		if r.Session == "" {
			continue
		}
		w.list.note(w.host, r, &w.gists[i].facts, w.gists[i].err, w.late[r.Seq])
		p, ok := spans[r.Session]
		if !ok {
			p.first = r.Seq
			order = append(order, r.Session)
		}
		p.last = r.Seq
		spans[r.Session] = p
	}
	return w.list.block(w, order, spans, uint64(b.last))
}

func missing(from, to uint64) string {
	if from == to {
		return "it is missing"
	}
	return fmt.Sprintf("records %d to %d are missing", from, to)
}

// classify says what was done to a record that is not right in its place.
func (w *walker) classify(r *events.Record, prev [32]byte) (seq uint64, what, why string, err error) {
	if r.Intact() {
		before := max(r.Seq, 2) - 1
		return before, "changed", fmt.Sprintf("record %d follows another record %d than this", r.Seq, r.Seq-1), nil
	}
	own, ok := original(r, 1000)
	if !ok {
		return r.Seq, "changed", "its hash is not that of its content", nil
	}
	for other, err := range w.rows(own) {
		if err != nil {
			return 0, "", "", err
		}
		if o, ok := original(&other, 1000); ok && other.Seq == own && o == r.Seq {
			return r.Seq, "reordered", fmt.Sprintf("records %d and %d have changed places", r.Seq, own), nil
		}
		break
	}
	switch {
	case own > r.Seq && r.Prev != prev:
		return r.Seq, "removed", fmt.Sprintf("record %d stands in its place", own), nil
	case own < r.Seq:
		return own, "inserted", fmt.Sprintf("the true record %d was moved to %d to make room", own, r.Seq), nil
	}
	return r.Seq, "reordered", fmt.Sprintf("record %d stands in its place", own), nil
}

// original finds the number under which a record's hash is right.
func original(r *events.Record, within uint64) (uint64, bool) {
	c := *r
	for d := uint64(0); d <= within; d++ {
		for _, c.Seq = range [...]uint64{r.Seq + d, r.Seq - min(d, r.Seq)} {
			if c.Intact() {
				return c.Seq, true
			}
		}
	}
	return 0, false
}

// rows gives the records of the chain from a number on, in order.
func (w *walker) rows(from uint64) iter.Seq2[events.Record, error] {
	return func(yield func(events.Record, error) bool) {
		for b, err := range w.blocks(int64(min(from, math.MaxInt64))) {
			if err != nil {
				yield(events.Record{}, err)
				return
			}
			for _, r := range b.records {
				if r.Seq >= from && !yield(r, nil) {
					return
				}
			}
		}
	}
}

// blocks gives the blocks of the chain that hold records from a number on. Of
// one that is damaged it gives what there is: no hash will match.
func (w *walker) blocks(from int64) iter.Seq2[storedBlock, error] {
	return func(yield func(storedBlock, error) bool) {
		for b, err := range blocks(w.ctx, w.tx, w.host, w.chain, from, math.MaxInt64) {
			if err == nil && !b.whole() {
				b.blockHeads = blockHeads{records: []events.Record{{Chain: w.chain, Seq: uint64(b.first)}}}
			}
			if !yield(b, err) {
				return
			}
		}
	}
}
