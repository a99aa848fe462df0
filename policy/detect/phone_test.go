package detect

import (
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/nyaruka/phonenumbers"
)

// The states say what the library says, for its example numbers and for such
// as differ from them in a digit or in length.
func TestPhoneStates(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	good, bad := 0, 0
	check := func(code int, national string) {
		// What the library's parser does besides (leaving out prefixes that are
		// dialled) is not asked for.
		n, err := strconv.ParseUint(national, 10, 64)
		if err != nil || national[0] == '0' {
			return
		}
		c := int32(code)
		want := phonenumbers.IsValidNumber(&phonenumbers.PhoneNumber{CountryCode: &c, NationalNumber: &n})
		if want {
			good++
		} else {
			bad++
		}
		if got := dialled([]byte(strconv.Itoa(code) + national)); got != want {
			t.Errorf("+%d %s: %v, the library says %v", code, national, got, want)
		}
	}
	for region := range phonenumbers.GetSupportedRegions() {
		for kind := range phonenumbers.PhoneNumberType(phonenumbers.UNKNOWN) {
			x := phonenumbers.GetExampleNumberForType(region, kind)
			if x == nil {
				continue
			}
			code, d := int(x.GetCountryCode()), phonenumbers.GetNationalSignificantNumber(x)
			check(code, d)
			check(code, d[1:])
			check(code, d+"1")
			for range 20 {
				b := []byte(d)
				b[r.IntN(len(b))] = byte('0' + r.IntN(10))
				check(code, string(b))
			}
		}
	}
	for range 50_000 {
		check(1, strconv.Itoa(2_000_000_000+r.IntN(8_000_000_000)))
	}
	if good < 1000 || bad < 1000 {
		t.Errorf("%d good and %d bad numbers were compared", good, bad)
	}
}
