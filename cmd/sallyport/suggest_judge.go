package main

import (
	"bytes"
	"slices"
	"strings"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/mask"
	"sallyport.dev/sallyport/protocols/postgres/sample"
)

// suggestion is what suggest found. It holds names and counts, no value.
type suggestion struct {
	Resource  string     `json:"resource"`
	Database  string     `json:"database"`
	Role      string     `json:"role"`
	Tables    int        `json:"tables"`
	Columns   int        `json:"columns"`
	Proposals []proposal `json:"proposals"`
	Unread    []unread   `json:"unread"`
}

// proposal is a column to mask.
type proposal struct {
	Field      string   `json:"field"` // as a policy names it
	Kind       string   `json:"kind"`
	Confidence int      `json:"confidence"` // percent
	Mask       string   `json:"mask"`
	Values     int      `json:"values"`         // looked at
	Hits       int      `json:"hits"`           // of them with data of the kind
	Also       []string `json:"also,omitempty"` // other kinds in the column
	Why        string   `json:"why"`            // values, text, name
}

// What a proposal comes from: the values are of the kind, it stands within
// longer text, or the column is called so.
const (
	byValues = "values"
	byText   = "text"
	byName   = "name"
)

// unread is a column that was not looked at.
type unread struct {
	Field  string `json:"field"`
	Reason string `json:"reason"`
	Hint   string `json:"hint,omitempty"` // kind, by its name
}

// examination is of one table.
type examination struct {
	table   *sample.Table
	columns []tally
}

// tally counts what was found in a column.
type tally struct {
	scanner *detect.Scanner
	values  int
	hits    map[detect.Kind]int // values with it
	whole   int                 // values that are it, of whatever kind
	sure    int                 // greatest confidence
}

func newExamination(t *sample.Table) *examination {
	x := &examination{t, make([]tally, len(t.Columns))}
	for i := range x.columns {
		s := detect.New(detect.Options{Kinds: detect.All})
		s.Label(t.Columns[i].Name)
		x.columns[i] = tally{scanner: s, hits: map[detect.Kind]int{}}
	}
	return x
}

func (x *examination) value(column int, v []byte) {
	t := &x.columns[column]
	v = bytes.TrimSpace(v)
	if len(v) == 0 {
		return
	}
	t.values++
	var seen detect.Set
	covered := 0
	for _, f := range t.scanner.Scan(v) {
		covered += f.Length
		t.sure = max(t.sure, int(f.Confidence))
		if !seen.Has(f.Kind) {
			seen |= detect.Of(f.Kind)
			t.hits[f.Kind]++
		}
	}
	if covered*10 >= len(v)*8 {
		t.whole++
	}
}

// kinds are those that were found, the most frequent first.
func (t *tally) kinds() (out []detect.Kind) {
	for k := range detect.All.Each() {
		if t.hits[k] > 0 {
			out = append(out, k)
		}
	}
	slices.SortStableFunc(out, func(a, b detect.Kind) int { return t.hits[b] - t.hits[a] })
	return out
}

// add judges a table that was read, or of which reading failed.
func (s *suggestion) add(x *examination, failed error, least uint8) {
	s.Tables++
	s.Columns += len(x.columns)
	var found []proposal
	var names []int // of found, that are bare names
	person := false
	for i := range x.columns {
		c, t := &x.table.Columns[i], &x.columns[i]
		field := fieldKey(x.table.Schema, x.table.Name, c.Name)
		reason := c.Unread
		if reason == "" && failed != nil && t.values == 0 {
			reason = failed.Error()
		}
		if reason != "" {
			u := unread{Field: field, Reason: reason}
			if k, _ := detect.Hint(c.Name); k != 0 {
				u.Hint = k.String()
			}
			s.Unread = append(s.Unread, u)
		}
		p, kind := judge(c, t, reason != "")
		if kind == 0 {
			continue
		}
		p.Field, p.Mask = field, proposed(kind, c, p.Why)
		switch kind {
		case detect.SSN, detect.MRN, detect.BirthDate, detect.Email, detect.Phone, detect.MBI, detect.Address:
			person = person || p.Confidence >= int(least)
		case detect.Name:
			names = append(names, len(found))
		}
		found = append(found, p)
	}
	// What is called name is a person's where the table is of people.
	for _, i := range names {
		if person {
			found[i].Confidence = max(found[i].Confidence, 75)
		}
	}
	for _, p := range found {
		if p.Confidence >= int(least) {
			s.Proposals = append(s.Proposals, p)
		}
	}
}

// judge says what a column holds, most likely; no kind for nothing.
func judge(c *sample.Column, t *tally, blind bool) (proposal, detect.Kind) {
	hint, named := detect.Hint(c.Name)
	kinds := t.kinds()
	p := proposal{Values: t.values}
	if len(kinds) > 0 {
		k := kinds[0]
		p.Hits = t.hits[k]
		share := 100 * p.Hits / t.values
		p.Confidence = t.sure * (50 + share/2) / 100
		p.Why = byText
		if t.whole*2 >= p.Hits {
			p.Why = byValues
		}
		if p.Why == byText { // one letter among a thousand is one too many
			p.Confidence = max(t.sure*8/10, p.Confidence)
		}
		if k == hint {
			p.Confidence = min(p.Confidence+10, 99)
		}
		for _, other := range kinds[1:] {
			p.Also = append(p.Also, other.String())
		}
		p.Kind = k.String()
		return p, k
	}
	if hint == 0 || c.Category == 'B' {
		return p, 0
	}
	p.Kind, p.Why, p.Confidence = hint.String(), byName, int(named)
	switch formless := hint == detect.Name || hint == detect.Place || hint == detect.Password || hint == detect.APIKey; {
	case blind, formless, t.values == 0:
	default: // its values do not look so
		p.Confidence = p.Confidence * 3 / 4
	}
	return p, hint
}

// proposed is the mask that leaves most use of a column, and no identifier.
func proposed(k detect.Kind, c *sample.Column, why string) string {
	if why != byText {
		switch text, number := c.Category == 'S', c.Category == 'N'; {
		case k == detect.SSN && (text || number):
			return mask.SSN
		case k == detect.Card && (text || number):
			return mask.PAN
		case k == detect.Phone && (text || number):
			return mask.Phone
		case k == detect.Zip && (text || number):
			return mask.Zip3
		case k == detect.Email && text:
			return mask.Email
		case (k == detect.BirthDate || k == detect.Date) && (c.Type == "date" || strings.HasPrefix(c.Type, "timestamp")):
			return mask.Year
		case number:
			return mask.Null
		}
	}
	return mask.Redact
}
