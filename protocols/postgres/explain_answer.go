package postgres

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/protocols/postgres/query"
)

// What is explained is answered by the server, from constants that it is sent in
// place of the statement: so the row comes in the form that the client asked for,
// in its order, and not at all in a transaction that has failed.

// explainColumns are those of the answer; the last is JSON.
var explainColumns = [...]string{"verdict", "rules", "masked", "code", "reason", "remedy", "detail"}

// carrier is what is prepared in place of a statement. Bind gives its constants.
var carrier = func() string {
	var b strings.Builder
	for i, name := range explainColumns {
		fmt.Fprintf(&b, ", $%d::pg_catalog.%s AS %s", i+1, explainType(i), name)
	}
	return "SELECT" + b.String()[1:]
}()

func explainType(column int) string {
	if column == len(explainColumns)-1 {
		return "json"
	}
	return "text"
}

// answered is an answer's values, in the order of explainColumns; "" is NULL.
type answered [len(explainColumns)]string

// appendSQL appends a text with the values in it. It means the same whatever
// standard_conforming_strings is.
func (a *answered) appendSQL(b []byte) []byte {
	b = append(b, "SELECT"...)
	for i, v := range a {
		if i > 0 {
			b = append(b, ',')
		}
		if v == "" {
			b = append(b, " NULL"...)
		} else {
			b = append(b, " E'"...)
			b = append(b, strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(v)...)
			b = append(b, '\'')
		}
		b = fmt.Appendf(b, "::pg_catalog.%s AS %s", explainType(i), explainColumns[i])
	}
	return b
}

// appendBind appends the body of a Bind: a carrier's, with the values in text,
// and the client's choice of formats for the result.
func (a *answered) appendBind(b []byte, portal, name string, formats []byte) []byte {
	b = appendString(appendString(b, portal), name)
	b = append(b, 0, 0, 0, byte(len(a)))
	for _, v := range a {
		n := uint32(len(v))
		if v == "" {
			n = 0xffffffff
		}
		b = append(b, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
		b = append(b, v...)
	}
	return append(b, formats...)
}

// explanation is an answer for programs. Its keys are those of a refusal's DETAIL,
// and more.
type explanation struct {
	Verdict   string        `json:"verdict"` // "allow", "mask", "approve" or "refuse"
	Code      string        `json:"code,omitempty"`
	Message   string        `json:"message,omitempty"`
	Commands  []string      `json:"commands,omitempty"`
	Objects   []string      `json:"objects,omitempty"`
	Masked    []maskedField `json:"masked,omitempty"`
	Filtered  []string      `json:"filtered,omitempty"`
	Detects   []string      `json:"detects,omitempty"` // rules that look for identifiers in what goes out
	Limits    []limitOf     `json:"limits,omitempty"`
	Rewritten bool          `json:"rewritten"`
	facts
}

// maskedField is a field that comes masked. Mask is the method's name: not its
// parameters.
type maskedField struct {
	Field string `json:"field"`
	Mask  string `json:"mask,omitempty"`
}

// limitOf is how much a rule lets through.
type limitOf struct {
	Rule      string  `json:"rule"`
	Statement *amount `json:"statement,omitempty"`
	Session   *amount `json:"session,omitempty"`
	Minute    *amount `json:"minute,omitempty"`
	Hour      *amount `json:"hour,omitempty"`
	Seconds   int64   `json:"session_seconds,omitempty"`
}

type amount struct {
	Rows       int64 `json:"rows,omitempty"`
	Bytes      int64 `json:"bytes,omitempty"`
	Statements int64 `json:"statements,omitempty"`
	Lookups    int64 `json:"lookups,omitempty"`
}

// explained puts what would be decided about a statement into an answer. What
// policy hides it does not tell: neither the text that would run, which has the
// conditions of filters in it, nor how a mask is made.
func (c *conn) explained(x *policy.Explanation, st *statement, sc *policy.Scope) *answered {
	an := st.an
	e := explanation{Verdict: "allow", Commands: an.Commands, facts: facts{Session: c.pol.Event.ID, Statement: c.number}}
	for _, o := range an.Objects {
		if s := o.String(); !slices.Contains(e.Objects, s) {
			e.Objects = append(e.Objects, s)
		}
	}
	if x.Verdict.Runs() {
		e.Rules, e.Rewritten = x.Rules, an.SQL != ""
		for _, f := range an.Masked {
			m := maskedField{Field: f.String(), Mask: sc.Masks[policy.Relation{Schema: f.Schema, Name: f.Relation}][f.Column].Kind}
			if !slices.Contains(e.Masked, m) {
				e.Masked = append(e.Masked, m)
			}
		}
		for _, r := range an.Filtered {
			e.Filtered = append(e.Filtered, r.Schema+"."+r.Name)
		}
		for i := range sc.Detects {
			if d := sc.Detects[i].Within(an.Reached()); d != nil {
				e.Detects = append(e.Detects, d.Rule)
			}
		}
		for _, l := range x.Limits {
			e.Limits = append(e.Limits, limitsOf(l))
		}
		if x.Verdict == events.Mask {
			e.Verdict = "mask"
		}
		if x.Asks != nil {
			e.Verdict = "approve"
		}
	} else {
		e.refusedBy(c.refusing(x.Rules, x.Reason, x.Remedy, x.Record, an), x)
	}
	return e.values()
}

func (e *explanation) refusedBy(r *refusal, x *policy.Explanation) {
	if x.Over != nil {
		r.code = codeBusy
	}
	e.Verdict, e.Code, e.Message = "refuse", r.code, r.message
	e.Refused, e.Rules, e.Remedy = kindNotUnderstood, nil, r.hint
	if !r.native {
		f := r.facts()
		e.Refused, e.Rules = f.Refused, f.Rules
	}
}

func (e *explanation) values() *answered {
	var masked []string
	for _, f := range e.Masked {
		masked = append(masked, strings.TrimRight(f.Field+" "+f.Mask, " "))
	}
	a := &answered{
		e.Verdict, strings.Join(e.Rules, ", "), strings.Join(masked, ", "), e.Code, e.Message, e.Remedy, oneLine(e),
	}
	for i := range a { // the server refuses what is no text
		a[i] = strings.ReplaceAll(strings.ToValidUTF8(a[i], "?"), "\x00", "")
	}
	return a
}

// oneLine is a value as JSON.
func oneLine(v any) string {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v) // strings and numbers: it can't fail
	return strings.TrimSuffix(b.String(), "\n")
}

func limitsOf(l policy.Limited) limitOf {
	of := func(a policy.Amount) *amount {
		if a == (policy.Amount{}) {
			return nil
		}
		return &amount{a.Rows, a.Bytes, a.Statements, a.Lookups}
	}
	return limitOf{
		l.Rule, of(l.Limits.Statement), of(l.Limits.Session), of(l.Limits.Minute), of(l.Limits.Hour), int64(l.Limits.Length.Seconds()),
	}
}

// carried is what is known of a carrier: nothing that it does needs a decision.
var carried = &statement{an: &query.Analysis{}}

// paramTypes are what Describe says of a statement that is explained: the types
// that the client declared, and none (0) for the others. Only the server could
// tell these, and it does not see the statement.
func paramTypes(declared []uint32, sql []byte) []uint32 {
	n := len(declared)
	for i := 0; i < len(sql); i++ {
		if sql[i] != '$' {
			continue
		}
		k := 0
		for i+1 < len(sql) && digit(sql[i+1]) && k < 1<<15 {
			i++
			k = k*10 + int(sql[i]-'0')
		}
		if k < 1<<15 {
			n = max(n, k)
		}
	}
	out := make([]uint32, n)
	copy(out, declared)
	return out
}

// appendParams appends a ParameterDescription.
func appendParams(b []byte, types []uint32) []byte {
	b, at := begin(b, 't')
	b = append(b, byte(len(types)>>8), byte(len(types)))
	for _, t := range types {
		b = append(b, byte(t>>24), byte(t>>16), byte(t>>8), byte(t))
	}
	return finish(b, at)
}
