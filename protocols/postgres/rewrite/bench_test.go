package rewrite_test

import (
	"testing"

	"sallyport.dev/sallyport/protocols/postgres/query"
)

func BenchmarkAnalyze(b *testing.B) {
	a := newAnalyzer(b)
	for name, sql := range map[string]string{
		"open":   "SELECT id, name FROM public.products WHERE id = 12345",
		"masked": "SELECT id, ssn, city FROM clinic.patients WHERE id = 12345",
		"join":   "SELECT p.id, p.name, e.note, r.drug FROM clinic.patients p JOIN clinic.encounters e ON e.patient_id = p.id LEFT JOIN clinic.prescriptions r ON r.encounter_id = e.id WHERE p.city = 'Boston' AND e.day > '2024-01-01' ORDER BY e.day DESC LIMIT 10",
		"star":   "SELECT * FROM clinic.patients",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				an, err := a.Analyze(b.Context(), query.Input{SQL: sql, Scope: masked()})
				if err != nil || an.Opaque != "" {
					b.Fatal(err, an.Opaque)
				}
			}
		})
	}
}
