package detect

import (
	"iter"
	"math/bits"
)

// Kind is what was found; the zero Kind is nothing.
type Kind uint8

// Kinds. Name and Place are known by what columns are called, never by a form.
const (
	SSN Kind = iota + 1
	Card
	NPI
	DEA
	IBAN
	Phone
	Email
	IP
	MAC
	URL
	VIN
	MBI
	Diagnosis
	MRN
	BirthDate
	Date
	Age
	Zip
	Address
	Account
	Routing
	Member
	Licence
	Plate
	Device
	Passport
	APIKey
	JWT
	PrivateKey
	Password
	Name
	Place
	kinds
)

var names = [kinds]string{
	SSN: "ssn", Card: "card", NPI: "npi", DEA: "dea", IBAN: "iban", Phone: "phone", Email: "email", IP: "ip", MAC: "mac", URL: "url",
	VIN: "vin", MBI: "mbi", Diagnosis: "diagnosis", MRN: "mrn", BirthDate: "birth_date", Date: "date", Age: "age", Zip: "zip", Address: "address",
	Account: "account", Routing: "routing", Member: "member", Licence: "licence", Plate: "plate", Device: "device", Passport: "passport",
	APIKey: "api_key", JWT: "jwt", PrivateKey: "private_key", Password: "password", Name: "name", Place: "place",
}

// String returns the name that policies and reports use; "" for no kind.
func (k Kind) String() string {
	if k >= kinds {
		return ""
	}
	return names[k]
}

// ParseKind returns the kind of a name, 0 if there is none.
func ParseKind(name string) Kind {
	for k, n := range names {
		if n == name && n != "" {
			return Kind(k)
		}
	}
	return 0
}

// Set is a set of kinds; the zero Set is empty.
type Set uint64

// All holds every kind.
const All Set = 1<<kinds - 2

// Of returns the set of some kinds.
func Of(ks ...Kind) (s Set) {
	for _, k := range ks {
		s |= 1 << k
	}
	return s &^ 1
}

// Has reports whether k is in s.
func (s Set) Has(k Kind) bool { return s>>k&1 == 1 }

// Each ranges over the kinds of s.
func (s Set) Each() iter.Seq[Kind] {
	return func(yield func(Kind) bool) {
		for s &= All; s != 0; s &= s - 1 {
			if !yield(Kind(bits.TrailingZeros64(uint64(s)))) {
				return
			}
		}
	}
}
