package rules

import (
	"crypto/sha256"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/policy"
)

// rule is one rule, compiled. Immutable after loading.
type rule struct {
	name   string
	file   string
	line   int
	effect policy.Effect

	who   *who   // nil: anybody
	where *where // nil: everywhere

	commands  commandSet
	relations []relation // nil in a rule that blocks: whatever a request touches
	masks     map[events.Field]policy.Mask
	functions []string
	filters   []policy.Relation // those of which a rule that filters leaves rows out
	rows      *clause           // which rows it keeps
	reveals   []events.Field    // what a rule that reveals shows in clear
	least     int               // characters of a justification
	detect    *policy.Detection // what a rule that masks looks for; nil: nothing

	cond   *condition // nil: always
	except []exception

	limits *policy.Limits // nil: none

	asks *policy.Approval // of a rule that asks for one; its Policy is set once all are read

	observe bool // what it would do is told, and not done

	named bool // it must be told whose rows go out

	record         *policy.Recording // nil: says nothing of it
	reason, remedy string

	knows []policy.Named // the relations that it is about by name

	digest [sha256.Size]byte    // of all of the above but file and line
	fields map[events.Field]int // the lines of masks
}

// reserved are names that decisions of the language itself go by.
var reserved = []string{"identity", "default", "opaque", "conflict", "changed", "session"}

var nameForm = regexp.MustCompile(`^[\pL\pN][\pL\pN _./:()+-]{0,99}$`)

var effects = map[string]policy.Effect{"allow": policy.EffectAllow, "mask": policy.EffectMask, "block": policy.EffectBlock, "filter": policy.EffectFilter, "reveal": policy.EffectReveal, "approve": policy.EffectApprove}

// rule reads one rule. What comes back is of use only if no error was noted.
func (r *reader) rule(n *yaml.Node) *rule {
	x := &rule{file: r.file, line: n.Line}
	given := map[string]*yaml.Node{}
	var look policy.Detection
	take := func(key string, read func(*yaml.Node)) field {
		return field{key, func(v *yaml.Node) {
			given[key] = v
			read(v)
		}}
	}
	if !r.fields(n, "a rule", []field{
		take("name", func(v *yaml.Node) { x.name = r.name(v) }),
		take("effect", func(v *yaml.Node) { x.effect = r.effect(v) }),
		take("identity", func(v *yaml.Node) { x.who = r.identity(v) }),
		take("resource", func(v *yaml.Node) { x.where = r.resource(v) }),
		take("commands", func(v *yaml.Node) { x.commands = r.commands(v) }),
		take("relations", func(v *yaml.Node) { x.relations = r.relations(v) }),
		take("fields", func(v *yaml.Node) { x.masks, x.fields = r.masks(v) }),
		take("functions", func(v *yaml.Node) { x.functions = r.functions(v) }),
		take("detect", func(v *yaml.Node) { look.Kinds = r.kinds(v) }),
		take("on", func(v *yaml.Node) { look.On = r.on(v) }),
		take("where", func(v *yaml.Node) { x.rows = r.rowsWhere(v) }),
		take("condition", func(v *yaml.Node) { x.cond = r.condition(v) }),
		take("except", func(v *yaml.Node) { x.except = r.except(v) }),
		take("record", func(v *yaml.Node) { r.record(v, x) }),
		take("record_limit", func(v *yaml.Node) { r.recordLimit(v, x) }),
		take("reason", func(v *yaml.Node) { x.reason = r.message(v, "reason") }),
		take("remedy", func(v *yaml.Node) { x.remedy = r.message(v, "remedy") }),
		take("approve", func(v *yaml.Node) { x.asks = r.approve(v) }),
		take("reveal", func(v *yaml.Node) { x.reveals = r.revealed(v) }),
		take("justification", func(v *yaml.Node) { x.least = r.justification(v) }),
		take("limits", func(v *yaml.Node) { x.limits = r.limits(v) }),
		take("observe", func(v *yaml.Node) { x.observe = r.observes(v) }),
		take("subjects", func(v *yaml.Node) { x.named = r.required(v) }),
	}) {
		return x
	}
	if look.Kinds != 0 {
		look.Rule = x.name
		x.detect = &look
	}
	r.shape(n, x, given)
	r.unread(x, given)
	x.digest = sha256.Sum256(canonical(x, given))
	x.knows = x.naming()
	if a := x.asks; a != nil {
		a.Rule, a.Reason, a.Digest = x.name, x.reason, x.digest
		a.Reveals = x.effect == policy.EffectReveal
	}
	return x
}

// shape checks what each effect needs and has no use for.
func (r *reader) shape(n *yaml.Node, x *rule, given map[string]*yaml.Node) {
	need := func(why string, ks ...string) {
		for _, k := range ks {
			if given[k] == nil {
				r.bad(n, "rule %q has no %s%s", x.name, k, why)
			}
		}
	}
	useless := func(why string, ks ...string) {
		for _, k := range ks {
			if v := given[k]; v != nil {
				r.bad(v, "%s: %s", k, why)
			}
		}
	}
	need("", "name", "effect")
	if x.effect != policy.EffectReveal {
		useless("only a rule that reveals has it", "reveal", "justification")
	}
	if x.effect != policy.EffectApprove && x.effect != policy.EffectReveal {
		useless("only a rule that asks for an approval, or reveals with one, has it", "approve")
	}
	if x.effect != policy.EffectReveal && x.effect != policy.EffectAllow {
		useless("only a rule that allows or reveals asks whose rows go out", "subjects")
	}
	switch x.effect {
	case policy.EffectAllow:
		need(`: what it allows must be said; "*" is all`, "identity", "resource", "commands", "relations")
		useless("only a rule that masks names fields", "fields")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that filters says which rows", "where")
		useless("only a rule that blocks has one", "reason", "remedy")
		if x.limits != nil && lookupsIn(x.limits) {
			r.bad(given["limits"], "limits: only a rule that masks, and lets what it masks be looked up, limits lookups")
		}
		if len(x.functions) > 0 && x.cond != nil && !x.cond.static() {
			r.bad(given["functions"], "functions: they are declared before a statement is understood: the condition may use identity, process, resource and session only")
		}
	case policy.EffectMask:
		need(`: what it masks must be said; "*" is everybody, or everywhere`, "identity", "resource")
		switch {
		case given["fields"] == nil && given["detect"] == nil:
			r.bad(n, "rule %q has no fields: name them with their masks, or say what to detect", x.name)
		case given["detect"] != nil:
			need(`: say where detectors look; "*" is in all text`, "on")
		default:
			useless("it says where detectors look: say which", "on")
		}
		useless("a mask holds for every command", "commands", "relations")
		useless("only a rule that filters says which rows", "where")
		r.early(x, given, useless)
		r.matches(x, given)
	case policy.EffectFilter:
		need(`: whom it is for must be said; "*" is everybody, or everywhere`, "identity", "resource")
		need(": name them", "relations")
		need(": say which rows are there", "where")
		useless("a filter holds for every command", "commands")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that masks names fields", "fields")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that allows, or lets what it masks be looked up, has limits", "limits")
		r.early(x, given, useless)
		if v := given["relations"]; v != nil {
			x.filters = r.filterRelations(v, x.relations)
		}
	case policy.EffectReveal:
		need(`: whom it reveals to must be said; "*" is everybody, or everywhere`, "identity", "resource")
		need(": name the columns that are shown in clear", "reveal")
		useless("what is revealed is so for every command", "commands", "relations")
		useless("only a rule that masks names fields", "fields")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that filters says which rows", "where")
		r.early(x, given, useless)
		if given["justification"] == nil {
			x.least = leastJustification
		}
	case policy.EffectApprove:
		r.asks(x, given, need, useless)
	case policy.EffectBlock:
		useless("only a rule that masks names fields", "fields")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that masks has detectors", "detect", "on")
		useless("only a rule that filters says which rows", "where")
		useless("only a rule that allows has limits", "limits")
		useless("only a rule that allows declares them", "functions")
		useless("only a rule that allows says how much is recorded", "record", "record_limit")
		if given["commands"] == nil {
			x.commands.all = true
		}
	}
	r.observed(x, given)
	if x.record != nil && x.record.Level != policy.RecordFull && given["record_limit"] != nil {
		r.bad(given["record_limit"], "record_limit: only record: full keeps anything of a result: leave one of them out")
	}
}

// early checks a rule that is applied before a statement is understood.
func (r *reader) early(x *rule, given map[string]*yaml.Node, useless func(string, ...string)) {
	useless("only a rule that allows declares them", "functions")
	useless("only a rule that allows says how much is recorded", "record", "record_limit")
	useless("only a rule that blocks has one", "remedy")
	if x.asks == nil {
		useless("only a rule that blocks, or asks for an approval, has one", "reason")
	}
	for i, c := range append([]exception{{cond: x.cond}}, x.except...) {
		if c.cond == nil || !c.cond.ofRequest() {
			continue
		}
		k := "except"
		if i == 0 {
			k = "condition"
		}
		r.bad(given[k], "%s: what is masked or filtered is known before a statement is understood: use identity, process, resource, session and now only", k)
	}
}

func (r *reader) name(n *yaml.Node) string {
	s, ok := r.text(n, "name")
	switch {
	case !ok:
		return ""
	case !nameForm.MatchString(s):
		r.bad(n, "name %q: use at most 100 letters, digits, spaces and _ . / : ( ) + -, a letter or digit first", s)
	case slices.Contains(reserved, s):
		r.bad(n, "name %q: this is how decisions of the language itself are called: use another", s)
	}
	return s
}

func (r *reader) effect(n *yaml.Node) policy.Effect {
	s, ok := r.text(n, "effect")
	e, known := effects[s]
	switch {
	case !ok || known:
	default:
		r.bad(n, "effect %q: use allow, mask, reveal, filter, approve or block", s)
	}
	return e
}

// identity reads who: "*", or a mapping.
func (r *reader) identity(n *yaml.Node) *who {
	if n.Kind == yaml.ScalarNode && n.Value == "*" {
		return nil
	}
	w := &who{}
	into := func(key string, to *globs) field {
		return field{key, func(v *yaml.Node) { *to = r.globs(v, key) }}
	}
	ok := r.fields(n, `identity ("*" is everybody)`, []field{
		into("workload", &w.Workload), into("issuer", &w.Issuer), into("subject", &w.Subject),
		into("actor", &w.Actor), into("principal", &w.Principal),
		into("spiffe", &w.SPIFFE), into("principal_issuer", &w.PrincipalIssuer),
		{"proof", func(v *yaml.Node) { w.Proof = r.proofs(v) }},
		{"claims", func(v *yaml.Node) {
			w.Claims = map[string]globs{}
			r.each(v, "claims", func(k, v *yaml.Node) { w.Claims[k.Value] = r.claim(k, v) })
		}},
	})
	if ok && len(n.Content) == 0 {
		r.bad(n, `identity: it is empty: say who, or "*" for everybody`)
	}
	return w
}

// claim reads patterns for a claim; numbers and booleans mean themselves.
func (r *reader) claim(k, n *yaml.Node) globs {
	what := "claim " + k.Value
	var out globs
	for _, e := range r.list(n, what) {
		var f float64
		var b bool
		switch {
		case e.Kind == yaml.ScalarNode && (e.Tag == "!!int" || e.Tag == "!!float") && e.Decode(&f) == nil:
			out = append(out, literal(formatNumber(f)))
		case e.Kind == yaml.ScalarNode && e.Tag == "!!bool" && e.Decode(&b) == nil:
			out = append(out, literal(strconv.FormatBool(b)))
		default:
			if s, ok := r.text(e, what); ok {
				g, err := parseGlob(s)
				if err != nil {
					r.bad(e, "%s: %v", what, err)
					continue
				}
				out = append(out, g)
			}
		}
	}
	return out
}

// resource reads where: "*", names, or a mapping.
func (r *reader) resource(n *yaml.Node) *where {
	if n.Kind != yaml.MappingNode {
		if n.Kind == yaml.ScalarNode && n.Value == "*" {
			return nil
		}
		return &where{Name: r.globs(n, "resource")}
	}
	w := &where{}
	r.fields(n, "resource", []field{
		{"name", func(v *yaml.Node) { w.Name = r.globs(v, "name") }},
		{"database", func(v *yaml.Node) { w.Database = r.globs(v, "database") }},
		{"labels", func(v *yaml.Node) {
			w.Labels = map[string]globs{}
			r.each(v, "labels", func(k, v *yaml.Node) { w.Labels[k.Value] = r.globs(v, "label "+k.Value) })
		}},
	})
	if len(n.Content) == 0 {
		r.bad(n, `resource: it is empty: say which, or "*" for all`)
	}
	return w
}

func (r *reader) message(n *yaml.Node, what string) string {
	s, ok := r.text(n, what)
	if ok && (len(s) > 500 || strings.ContainsFunc(s, func(c rune) bool { return c < ' ' && c != '\n' })) {
		r.bad(n, "%s: at most 500 bytes without control characters: a client is shown it", what)
	}
	return strings.TrimSpace(strings.ReplaceAll(s, "\n", " "))
}
