package rules

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sallyport.dev/sallyport/events"
	"sallyport.dev/sallyport/intercept"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/mask"
)

// form is a part of a JSON Schema (draft 2020-12).
type form map[string]any

// Schema returns a JSON Schema of a policy file, for editors. What it refuses
// Parse refuses too. Parse refuses more: a schema knows nothing of conditions,
// names, and what stands in other rules.
func Schema() []byte {
	b, err := json.MarshalIndent(form{
		"$schema": "https://json-schema.org/draft/2020-12/schema",
		"title":   "A policy of sallyport", "type": "object",
		"properties": form{"rules": form{"type": "array", "minItems": 1, "items": form{"$ref": "#/$defs/rule"}}, "subjects": subjectsForm(), "break_glass": glassForm()},
		"required":   []string{"rules"}, "additionalProperties": false,
		"$defs": form{"rule": ruleForm(), "identity": identityForm(), "condition": conditionForm()},
	}, "", "  ")
	if err != nil {
		panic(err) // of maps and texts: it can't fail
	}
	return append(b, '\n')
}

// subjectsForm says whose the rows of relations are.
func subjectsForm() form {
	return about("Whose the rows of relations are.", form{"type": "array", "minItems": 1, "items": mapping(map[string]form{
		"relation": about("schema.relation, a table or a view.", textForm),
		"key":      about("The column that says whose a row is.", textForm),
		"name":     about("What it names.", form{"type": "string", "pattern": subjectForm.String()}),
		"resource": about("Where; everywhere if it is left out.", resourceForm()),
	}, form{"required": []string{"relation", "key", "name"}})})
}

var (
	textForm  = form{"type": "string", "pattern": `\S`}
	globsForm = oneOrMore(textForm)
)

// oneOrMore is a list, or a single value of it.
func oneOrMore(of form) form {
	return form{"oneOf": []form{of, {"type": "array", "minItems": 1, "items": of}}}
}

func about(what string, of form) form {
	of = maps.Clone(of)
	of["description"] = what
	return of
}

// mapping is an object that has these members only.
func mapping(members map[string]form, more form) form {
	f := form{"type": "object", "properties": members, "additionalProperties": false}
	maps.Copy(f, more)
	return f
}

func enum[T ~string](words []T) form { return form{"enum": words} }

func number(from, to int) form { return form{"type": "integer", "minimum": from, "maximum": to} }

// ruleMembers are those of a rule: what each is, in the words of the manual.
func ruleMembers() map[string]form {
	return map[string]form{
		"name":          about("Unique; it stands in events and refusals.", form{"type": "string", "pattern": `^[\p{L}\p{N}][\p{L}\p{N} _./:()+-]{0,99}$`}),
		"effect":        about("What the rule does.", enum(slices.Sorted(maps.Keys(effects)))),
		"identity":      about(`Who. "*" is everybody with a proved identity.`, form{"$ref": "#/$defs/identity"}),
		"resource":      about(`What is connected to. "*" is everything.`, resourceForm()),
		"commands":      about("Commands, their groups (read, write, ddl, session), or patterns of them.", oneOrMore(form{"anyOf": []form{enum(commandWords()), {"type": "string", "pattern": `[*?\\]`}}})),
		"relations":     about(`schema.relation, or patterns; "*" is all.`, globsForm),
		"fields":        about("Masked fields, schema.relation.column, each with its mask.", form{"type": "object", "minProperties": 1, "additionalProperties": maskForm()}),
		"functions":     about("Functions that are declared harmless, schema.function.", globsForm),
		"detect":        about(`Kinds that are looked for in text; "*" is all of them.`, oneOrMore(enum(append(detectable(), "*")))),
		"on":            about(`Where detectors look: schema.relation.column, schema.relation, schema.*, or "*".`, globsForm),
		"where":         about("Which rows are there: a condition in a small part of SQL.", textForm),
		"condition":     {"$ref": "#/$defs/condition"},
		"except":        about("Who, or when, the rule is not for.", oneOrMore(exceptForm())),
		"record":        about("How much of it goes into the transcript.", enum(slices.Sorted(maps.Keys(levels)))),
		"record_limit":  about("Bytes of a result that the transcript holds.", bytesForm()),
		"reason":        about("Why it is blocked: the client is told.", form{"type": "string", "pattern": `\S`, "maxLength": 500}),
		"remedy":        about("What to do about it: the client is told.", form{"type": "string", "pattern": `\S`, "maxLength": 500}),
		"reveal":        about("Fields that are shown in clear, schema.relation.column.", globsForm),
		"justification": about("Characters that a justification has at least.", number(1, mostJustification)),
		"approve":       about("Who may approve a statement, what of it, and for how long.", approveForm()),
		"observe":       about("What the rule would do is told in events, and not done.", form{"const": true}),
		"subjects":      about("That it must be told whose rows go out.", form{"const": "required"}),
		"limits":        about("How much the rule lets through.", limitsForm()),
	}
}

// ruleForm is a rule, with what each effect asks for and has no use for: as the
// loader itself says.
func ruleForm() form {
	var cases []form
	for _, name := range slices.Sorted(maps.Keys(effects)) {
		then := form{}
		needed, useless := shapeOf(effects[name])
		if len(needed) > 0 {
			then["required"] = needed
		}
		if len(useless) > 0 {
			no := form{}
			for _, k := range useless {
				no[k] = false
			}
			then["properties"] = no
		}
		if effects[name] == policy.EffectMask {
			then["anyOf"] = []form{{"required": []string{"fields"}}, {"required": []string{"detect", "on"}}}
		}
		cases = append(cases, form{"if": form{"properties": form{"effect": form{"const": name}}, "required": []string{"effect"}}, "then": then})
	}
	return mapping(ruleMembers(), form{"required": []string{"name", "effect"}, "allOf": cases})
}

// shapeOf asks the loader which members a rule of an effect must have, and which it
// may not.
func shapeOf(e policy.Effect) (needed, useless []string) {
	keys := slices.Sorted(maps.Keys(ruleMembers()))
	for _, k := range keys {
		r := &reader{}
		x := &rule{effect: e}
		switch { // limits that are right for the effect
		case k == "limits" && e == policy.EffectMask:
			x.limits = &policy.Limits{Hour: policy.Amount{Lookups: 1}}
			x.masks = map[events.Field]policy.Mask{{}: {Match: true}}
		case k == "limits":
			x.limits = &policy.Limits{Hour: policy.Amount{Rows: 1}}
		}
		if k == "reason" && e == policy.EffectReveal {
			x.asks = &policy.Approval{}
		}
		given := map[string]*yaml.Node{k: {}}
		if k == "detect" || k == "on" {
			given["detect"], given["on"] = &yaml.Node{}, &yaml.Node{}
		}
		r.shape(&yaml.Node{}, x, given)
		for _, e := range r.errs {
			if strings.HasPrefix(e.Problem, k+": ") && !slices.Contains(useless, k) {
				useless = append(useless, k)
			}
		}
	}
	r := &reader{}
	r.shape(&yaml.Node{}, &rule{effect: e}, map[string]*yaml.Node{})
	for _, k := range keys {
		if slices.ContainsFunc(r.errs, func(e *Error) bool {
			return e.Problem == fmt.Sprintf("rule %q has no %s", "", k) || strings.HasPrefix(e.Problem, fmt.Sprintf("rule %q has no %s:", "", k)) && !(k == "fields")
		}) {
			needed = append(needed, k)
		}
	}
	return needed, useless
}

func commandWords() []string {
	words := []string{"*", functionCall, replication, undecoded}
	words = append(words, slices.Sorted(maps.Keys(groups))...)
	return append(words, knownCommands...)
}

func identityForm() form {
	value := form{"type": []string{"string", "number", "boolean"}}
	members := map[string]form{
		"proof":  about("How it was proved: "+strings.Join(intercept.Strengths(), ", ")+", or patterns.", globsForm),
		"claims": about("Claims of the token, by their names.", form{"type": "object", "minProperties": 1, "additionalProperties": oneOrMore(value)}),
	}
	for _, k := range []string{"workload", "spiffe", "issuer", "subject", "actor", "principal", "principal_issuer"} {
		members[k] = globsForm
	}
	return form{"oneOf": []form{{"const": "*"}, mapping(members, form{"minProperties": 1})}}
}

func resourceForm() form {
	return form{"oneOf": []form{globsForm, mapping(map[string]form{
		"name": globsForm, "database": globsForm,
		"labels": {"type": "object", "minProperties": 1, "additionalProperties": globsForm},
	}, form{"minProperties": 1})}}
}

func conditionForm() form {
	return about("When: an expression in CEL over identity, process, resource, session, statement, request and now.", textForm)
}

func exceptForm() form {
	return mapping(map[string]form{
		"identity": {"$ref": "#/$defs/identity"}, "condition": {"$ref": "#/$defs/condition"},
	}, form{"minProperties": 1})
}

// maskForm: null without quotes is a mask too.
func maskForm() form {
	name := form{"enum": append([]any{nil}, anys(mask.Names)...)}
	return form{"oneOf": []form{name, mapping(map[string]form{
		"mask":     name,
		"first":    about("partial: characters kept at the beginning.", number(0, mask.MaxKept)),
		"last":     about("partial: characters kept at the end.", number(0, mask.MaxKept)),
		"constant": about("redact: what is shown.", textForm),
		"width":    about("bucket: of numbers.", form{"type": "integer", "minimum": 1}),
		"unit":     about("bucket: of dates.", enum(mask.Units)),
		"earliest": about("year: what is before shows as this year.", form{"type": "integer", "minimum": 0}),
		"keep":     about("json: the paths that are shown.", globsForm),
		"of":       about("fake: what is made up.", enum(mask.Fakes)),
		"match":    about("The field may be looked up by its stored value.", form{"const": "equality"}),
	}, form{"required": []string{"mask"}})}}
}

// approverForm is of who may decide; weaker: SAML providers may vouch for them too.
func approverForm(weaker bool) form {
	members := map[string]form{
		"issuer":   about("Who vouches for approvers: one of approvals.issuers.", textForm),
		"subjects": about("Subjects of their tokens; all of them, if it is left out.", globsForm),
		"claims":   about("Claims of their tokens, with the values of which one must be there.", form{"type": "object", "minProperties": 1, "additionalProperties": globsForm}),
	}
	named := form{"anyOf": []form{{"required": []string{"subjects"}}, {"required": []string{"claims"}}}}
	if !weaker {
		named["required"] = []string{"issuer"}
		return mapping(members, named)
	}
	members["saml"] = about("Instead of issuer, the weaker proof: the name of one of approvals.saml, whose assertion a recorder brings and signs.", textForm)
	named["oneOf"] = []form{{"required": []string{"issuer"}}, {"required": []string{"saml"}}}
	return mapping(members, named)
}

func approveForm() form {
	lasts := form{"type": "string", "pattern": `^[0-9]`}
	value := form{"type": []string{"string", "number", "boolean"}}
	return mapping(map[string]form{
		"by":     about("Who may approve.", oneOrMore(approverForm(true))),
		"count":  about("How many different people must.", number(1, mostApprovers)),
		"within": about("How long a request waits for them, like 15m.", lasts),
		"grant":  about("How long what they approved may be used, like 10m.", lasts),
		"uses":   about("How often it may be.", number(1, mostUses)),
		"scope":  about("What an approval is of.", enum([]string{"statement", "shape", "rule"})),
		"free":   about("scope: shape: parameters, by their number from 1, with the values that each may have.", form{"type": "object", "minProperties": 1, "additionalProperties": oneOrMore(value)}),
		"wait":   about("retry, hold, or how long a client is held, like 30s.", form{"type": "string", "pattern": `^(retry|hold|[0-9].*)$`}),
	}, form{"required": []string{"by"}})
}

func anys(list []string) (out []any) {
	for _, s := range list {
		out = append(out, s)
	}
	return out
}

func bytesForm() form {
	return form{"oneOf": []form{{"type": "integer", "minimum": 1}, {"type": "string", "pattern": sizeForm.String()}}}
}

func limitsForm() form {
	count := form{"type": "integer", "minimum": 1}
	amount := func(more map[string]form) form {
		members := map[string]form{"rows": count, "bytes": bytesForm(), "lookups": count}
		maps.Copy(members, more)
		return mapping(members, form{"minProperties": 1})
	}
	statements := map[string]form{"statements": count}
	return mapping(map[string]form{
		"statement": amount(nil), "minute": amount(statements), "hour": amount(statements),
		"session": amount(map[string]form{"statements": count, "length": about("How long a session may last, like 8h.", textForm)}),
	}, form{"minProperties": 1})
}
