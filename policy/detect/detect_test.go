package detect_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"sallyport.dev/sallyport/policy/detect"
	"sallyport.dev/sallyport/policy/detect/corpus"
)

func all() *detect.Scanner { return detect.New(detect.Options{Kinds: detect.All}) }

// told writes findings with what they are of.
func told(text string, found []detect.Finding) string {
	var out []string
	for _, f := range found {
		out = append(out, f.Kind.String()+"="+text[f.Offset:f.End()])
	}
	return strings.Join(out, " | ")
}

// What is told by words, check digits and what stands around, one line each.
func TestFindings(t *testing.T) {
	s := all()
	for text, want := range map[string]string{
		"SSN 219-45-6789": "ssn=219-45-6789",
		"219-45-6789":     "ssn=219-45-6789",
		"000-45-6789 666-45-6789 219-00-6789 219-45-0000": "",
		"078-05-1120":                               "", // of an advertisement
		"912-45-6789":                               "", // never issued
		"SSN 912-45-6789":                           "ssn=912-45-6789",
		"219456789":                                 "",
		"patientSsn: 219456789":                     "ssn=219456789",
		"X-219-45-6789":                             "",
		"219-45-6789-1":                             "",
		"219\u201145\u20116789":                     "ssn=219\u201145\u20116789",
		"4111 1111 1111 1111":                       "card=4111 1111 1111 1111",
		"4111 1111 1111 1112":                       "",
		"4111111111111111.":                         "card=4111111111111111",
		"order 4111111111111111":                    "",
		"0.4111111111111111":                        "",
		"3782 822463 10005":                         "card=3782 822463 10005",
		"NPI 1234567893":                            "npi=1234567893",
		"NPI 1234567894":                            "",
		"id 1234567893":                             "",
		"DEA BJ6125341":                             "dea=BJ6125341",
		"DEA BJ6125342":                             "",
		"GB82 WEST 1234 5698 7654 32":               "iban=GB82 WEST 1234 5698 7654 32",
		"GB83 WEST 1234 5698 7654 32":               "",
		"(617) 555-0143":                            "phone=(617) 555-0143",
		"call +49 30 901820 12":                     "phone=+49 30 901820 12",
		"+44 (0)20 7946 0958":                       "phone=+44 (0)20 7946 0958",
		"+1 199 555 0143":                           "", // no such area
		"199-555-0143":                              "",
		"617-555-0143 2024-01-01":                   "phone=617-555-0143",
		"a@b":                                       "",
		"mail a.b+c@example.co.uk.":                 "email=a.b+c@example.co.uk",
		"6175550143@example.org":                    "email=6175550143@example.org",
		"10.20.30.40":                               "ip=10.20.30.40",
		"10.20.30.400 v1.2.3.4 version 10.20.30.40": "",
		"fe80::1ff:fe23:4567:890a":                  "ip=fe80::1ff:fe23:4567:890a",
		"::1 a::b std::vector 12:30:45":             "",
		"00:1a:2b:3c:4d:5e 00-1A-2B-3C-4D-5E 001a.2b3c.4d5e": "mac=00:1a:2b:3c:4d:5e | mac=00-1A-2B-3C-4D-5E | mac=001a.2b3c.4d5e",
		"(see https://a.example/x?y=1).":                     "url=https://a.example/x?y=1",
		"postgres://u:p@h/db":                                "url=postgres://u:p@h/db",
		"1HGCM82633A004352":                                  "vin=1HGCM82633A004352",
		"1HGCM82633A004353":                                  "",
		"VIN 1HGCM82633A004353":                              "vin=1HGCM82633A004353",
		"1EG4-TE5-MK73":                                      "mbi=1EG4-TE5-MK73",
		"1EG4TE5MK73":                                        "mbi=1EG4TE5MK73",
		"1SG4TE5MK73":                                        "",
		"ICD-10 E11.9":                                       "diagnosis=E11.9",
		"room E11.9":                                         "",
		"MRN-123456":                                         "mrn=123456",
		"account opened by clerk 12345678":                   "",
		"account number is 12345678":                         "account=12345678",
		"mrn 12":                                             "",
		"DOB: 3/12/85":                                       "birth_date=3/12/85",
		"born March 12, 1985":                                "birth_date=March 12, 1985",
		"born 12th of March 1985":                            "birth_date=12th of March 1985",
		"dateOfBirth 1985-02-30":                             "",
		"seen 1985-02-03":                                    "date=1985-02-03",
		"1985-02-03":                                         "",
		"aged 93":                                            "age=93",
		"a 93-year-old":                                      "age=93",
		"a 33-year-old":                                      "",
		"Boston, MA 02115-1234":                              "zip=02115-1234",
		"Boston, XX 02115":                                   "",
		"at 221 N. Baker St, today":                          "address=221 N. Baker St",
		"at 221 men":                                         "",
		"ghp_0123456789abcdefghijABCDEFGHIJ012345":           "api_key=ghp_0123456789abcdefghijABCDEFGHIJ012345",
		"ghp_short":                                          "",
		"AKIAIOSFODNN7EXAMPLE":                               "api_key=AKIAIOSFODNN7EXAMPLE",
		"password: hunter2!":                                 "password=hunter2!",
		"password: required":                                 "",
		`{"secret": "x&y,z;1"}`:                              "password=x&y,z;1",
		"":                                                   "",
	} {
		if got := told(text, s.Scan([]byte(text))); got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

// A column's name is a word before its values, until another is told.
func TestLabel(t *testing.T) {
	s := all()
	for _, c := range []struct{ label, text, want string }{
		{"", "219456789", ""},
		{"patient_ssn", "219456789", "ssn=219456789"},
		{"birthDate", "1985-03-12", "birth_date=1985-03-12"},
		{"npi_number", "1234567893", "npi=1234567893"},
		{"created", "1985-03-12", ""},
		{"", "1985-03-12", ""},
	} {
		s.Label(c.label)
		if got := told(c.text, s.Scan([]byte(c.text))); got != c.want {
			t.Errorf("%s %q: %s, want %s", c.label, c.text, got, c.want)
		}
	}
}

// Only what is asked for is found, and only if it is sure enough.
func TestOptions(t *testing.T) {
	text := []byte("SSN 219-45-6789, a@example.org, BJ6125341")
	for _, c := range []struct {
		o    detect.Options
		want string
	}{
		{detect.Options{}, ""},
		{detect.Options{Kinds: detect.Of(detect.Email)}, "email=a@example.org"},
		{detect.Options{Kinds: detect.All, Min: 90}, "ssn=219-45-6789 | email=a@example.org"},
		{detect.Options{Kinds: detect.All}, "ssn=219-45-6789 | email=a@example.org | dea=BJ6125341"},
	} {
		if got := told(string(text), detect.New(c.o).Scan(text)); got != c.want {
			t.Errorf("%+v: %s, want %s", c.o, got, c.want)
		}
	}
}

func TestKinds(t *testing.T) {
	n := 0
	for k := range detect.All.Each() {
		n++
		if k.String() == "" || detect.ParseKind(k.String()) != k || !detect.Of(k).Has(k) {
			t.Errorf("kind %d: %q", k, k)
		}
	}
	if n < 30 || detect.ParseKind("") != 0 || detect.ParseKind("x") != 0 || detect.Set(0).Has(0) || detect.All.Has(0) || detect.Kind(200).String() != "" {
		t.Errorf("%d kinds", n)
	}
}

// stream is a long text with all kinds in it, of which some go on for long.
func stream() string {
	var b strings.Builder
	for i, s := range corpus.Generate(3, 2500) {
		b.WriteString(s.Text)
		b.WriteByte('\n')
		switch i % 500 {
		case 7:
			b.WriteString("https://example.org/" + strings.Repeat("abcdefgh/", 4000) + "\n")
		case 8:
			b.WriteString(strings.Repeat("x1", 20000) + " ")
		case 9:
			b.WriteString("-----BEGIN " + "PRIVATE KEY-----\n" + strings.Repeat("QUJDREVGR0g\n", 3000) + "-----END " + "PRIVATE KEY-----\n")
		}
	}
	return b.String()
}

// Where a stream is cut makes no difference.
func TestStream(t *testing.T) {
	text := stream()
	s := all()
	want := told(text, s.Scan([]byte(text)))
	if strings.Count(want, "private_key=") < 5 || !strings.Contains(want, strings.Repeat("abcdefgh/", 4000)) || !strings.Contains(want, "QUJDREVGR0g\n-----END PRIVATE KEY-----") {
		t.Fatal("the whole text was not found as it is")
	}
	r := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{1, 7, 100, 5000, 40000} {
		var found []detect.Finding
		for i := 0; i < len(text); {
			n := min(1+r.IntN(most), len(text)-i)
			found = append(found, s.Feed([]byte(text[i:i+n]))...)
			i += n
		}
		found = append(found, s.End()...)
		if got := told(text, found); got != want {
			t.Errorf("pieces of up to %d: another result", most)
		}
	}
}

// Whatever was fed before, a value begins afresh.
func TestAfresh(t *testing.T) {
	s := all()
	s.Feed([]byte("SSN "))
	if found := s.Scan([]byte("219456789")); len(found) != 0 {
		t.Error("a value was read as the end of a stream")
	}
	s.Feed([]byte("SSN "))
	s.End()
	s.Feed([]byte("219456789"))
	if found := s.End(); len(found) != 0 {
		t.Error("a stream was read as the end of another")
	}
}

func TestReplacer(t *testing.T) {
	r := detect.NewReplacer(detect.Options{Kinds: detect.All})
	got, n := r.Append([]byte("> "), []byte("SSN 219-45-6789, mail a@example.org."))
	if string(got) != "> SSN [ssn], mail [email]." || n != 2 {
		t.Errorf("%q, %d", got, n)
	}
	r.Label("ssn")
	if got, n := r.Append(nil, []byte("219456789")); string(got) != "[ssn]" || n != 1 {
		t.Errorf("%q, %d", got, n)
	}
	r.Label("")
	text := stream()
	want, total := r.Append(nil, []byte(text))
	random := rand.New(rand.NewPCG(1, 2))
	for _, most := range []int{1, 7, 100, 5000, 40000} {
		var got []byte
		sum := 0
		for i := 0; i < len(text); {
			k := min(1+random.IntN(most), len(text)-i)
			var n int
			got, n = r.Feed(got, []byte(text[i:i+k]))
			sum += n
			i += k
		}
		got, n = r.End(got)
		if sum += n; string(got) != string(want) || sum != total {
			t.Errorf("pieces of up to %d: %d bytes and %d findings, want %d and %d", most, len(got), sum, len(want), total)
		}
	}
}

// Once its buffers have grown, nothing is allocated, whatever is found.
func TestAllocations(t *testing.T) {
	text := []byte(stream())
	s, r := all(), detect.NewReplacer(detect.Options{Kinds: detect.All})
	var dst []byte
	for name, f := range map[string]func(){
		"Scan": func() { s.Scan(text) },
		"Feed": func() {
			for piece := range slices.Chunk(text, 1000) {
				s.Feed(piece)
			}
			s.End()
		},
		"Append":  func() { dst, _ = r.Append(dst[:0], text) },
		"Replace": func() { dst, _ = r.Feed(dst[:0], text); dst, _ = r.End(dst) },
	} {
		f()
		if n := testing.AllocsPerRun(5, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// The least that the corpus must show; docs/detectors.md has the figures.
func TestMeasured(t *testing.T) {
	samples := corpus.Generate(1, 20000)
	score := corpus.Measure(all(), samples, nil)
	// What no form tells: see the comments in the corpus.
	low := map[detect.Kind]float64{detect.SSN: .74, detect.Phone: .90, detect.BirthDate: .79}
	for k := range detect.All.Each() {
		if k == detect.Name || k == detect.Place {
			continue
		}
		n, recall := score[k], .99
		if l := low[k]; l != 0 {
			recall = l
		}
		if n.Right < 100 || n.Precision() < .97 || n.Recall() < recall {
			t.Errorf("%s: %+v: precision %.3f, recall %.3f", k, n, n.Precision(), n.Recall())
		}
	}
	again := corpus.Generate(1, 20000)
	if fmt.Sprint(samples) != fmt.Sprint(again) || fmt.Sprint(samples) == fmt.Sprint(corpus.Generate(2, 20000)) {
		t.Error("the corpus is not its seed's")
	}
}

// What columns are called, and how sure that makes it.
func TestHint(t *testing.T) {
	for column, want := range map[string]string{
		"ssn": "ssn 70", "patient_ssn": "ssn 70", "SocialSecurityNumber": "ssn 70", "social_security_no": "ssn 70", "email": "email 70", "e_mail": "email 70", "contactEmail": "email 70",
		"date_of_birth": "birth_date 70", "birthDate": "birth_date 70", "dob": "birth_date 70", "mobile": "phone 70", "home_phone": "phone 70", "first_name": "name 70", "LastName": "name 70",
		"name": "name 40", "product_name": " 0", "file_name": " 0", "city": "place 70", "zip": "zip 70", "zip_code": "zip 70", "street": "address 70", "ip_address": "ip 70", "mrn": "mrn 70",
		"account_number": "account 70", "password_hash": "password 70", "api_key": "password 70", "id": " 0", "created_at": " 0", "price": " 0", "status": " 0", "": " 0", "_": " 0",
		"policy_text": "member 40", "device_status": "device 40",
	} {
		k, sure := detect.Hint(column)
		if got := fmt.Sprintf("%s %d", k, sure); got != want {
			t.Errorf("%q: %s, want %s", column, got, want)
		}
	}
}
