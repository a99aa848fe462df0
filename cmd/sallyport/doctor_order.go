package main

import (
	"context"
	"fmt"
	"strings"

	"sallyport.dev/sallyport/cmd/internal/config"
	"sallyport.dev/sallyport/policy"
	"sallyport.dev/sallyport/policy/rules"
	"sallyport.dev/sallyport/protocols/postgres/rewrite"
)

// order names what the order of rows could tell of masked values by, and what it
// costs that it does not.
func (l *findings) order(ctx context.Context, cfg *config.Config, o *conduitOptions, r *config.Resource) {
	const check = "order of rows"
	p, err := rules.Load(cfg.Policy)
	if err != nil {
		l.note(check, "the policy could not be read: "+err.Error(), "see sallyport policy check")
		return
	}
	masks := map[policy.Relation]map[string]policy.Mask{}
	for _, f := range p.Masked(&policy.Session{Resource: r.Name, Protocol: r.Protocol, Labels: r.Labels, Database: o.database}) {
		of := policy.Relation{Schema: f.Field.Schema, Name: f.Field.Relation}
		if masks[of] == nil {
			masks[of] = map[string]policy.Mask{}
		}
		masks[of][f.Field.Column] = f.Mask
	}
	if len(masks) == 0 {
		l.note(check, "nothing of the database is masked", "")
		return
	}
	a, err := openAnalysis(ctx, cfg, &explainOptions{server: o.server, database: o.database}, r)
	if err != nil {
		l.check(check, "", err, "see that the catalog's account may read the catalogs of the database (docs/operations.md)")
		return
	}
	defer a.close()
	all, err := a.analyzer.Tellings(&policy.Scope{Masks: masks})
	if err != nil {
		l.check(check, "", err, "see sallyport policy check --database")
		return
	}
	n := 0
	for _, t := range all {
		if detail, remedy := toldByOrder(t); remedy != "" {
			l.note(check, detail, remedy)
			n++
		}
	}
	if n == 0 {
		l.note(check, "no index and no partition tells of masked columns at a cost", "")
	}
}

// toldByOrder is what a note says; the remedy is "" where there is nothing to say.
func toldByOrder(t rewrite.Telling) (detail, remedy string) {
	masked, open := strings.Join(t.Masked, ", "), strings.Join(t.Open, ", ")
	switch {
	case t.Index == "":
		return fmt.Sprintf("%s is partitioned by %s, which is masked: its partitions are refused by their own names, and its rows sorted by all that is shown", t.Relation, masked),
			"partition it by an open column"
	case t.Clustered:
		return fmt.Sprintf("%s is clustered on %s, which holds masked %s: rows that are read as they lie come in the order of its values", t.Relation, t.Index, masked),
			"cluster it on an index of open columns"
	case len(t.Open) > 0:
		return fmt.Sprintf("index %s of %s holds masked %s besides %s: statements that use the latter have the relation sorted, and do not join it by index", t.Index, t.Relation, masked, open),
			"have indexes of masked columns hold nothing else"
	}
	return "", ""
}
