package catalog

import (
	"context"
	"strconv"
	"strings"
)

// functions reads the functions that are not built in, with what their calls run.
func (s *reading) functions(ctx context.Context, c source) error {
	var f Function
	var kind, atomic, config, types, calls string
	server := s.Server
	if s.base != nil {
		server = s.base.Server
	}
	sql := functionsSQL
	if server < 140000 { // it has no such bodies
		sql = strings.NewReplacer("p.prosqlbody IS NULL", "true", "pg_catalog.pg_get_function_sqlbody(p.oid)", "''").Replace(sql)
	}
	return c.each(ctx, sql, func() {
		n := f
		n.Kind = kind[0]
		if atomic != "" {
			n.Body, n.Atomic = atomic, true
		}
		n.Config = divided(config)
		for t := range strings.FieldsSeq(types) {
			if oid, err := strconv.ParseUint(t, 10, 32); err == nil && oid != 0 {
				n.Types = append(n.Types, uint32(oid))
			}
		}
		for _, call := range divided(calls) {
			oid, name, _ := strings.Cut(call, ":")
			id, _ := strconv.ParseUint(oid, 10, 32)
			n.Calls = append(n.Calls, Call{OID: uint32(id), Name: name})
		}
		s.Functions[n.Name] = append(s.Functions[n.Name], &n)
	}, &f.OID, &f.Schema, &f.Name, &f.Extension, &kind, &f.Language, &f.Body, &atomic, &config, &f.Support, &f.Defaults, &types, &calls, &f.Initial)
}

func divided(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, "\x01")
}
