package connector

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// The errors of Add and CheckAddend.
var (
	errAddend   = errors.New("the value to add is not a number: give Incr a number")
	errHeld     = errors.New("the field does not hold a number: Incr needs a field that holds one, or that is not there")
	errTooLarge = errors.New("the sum is too large")
)

// CheckAddend returns an error if a text is not a number that Incr can add. Infinity and NaN are no such numbers, and neither is
// a number outside the range of an 80-bit floating-point number.
//
// A number is a text in a store, and Incr adds it in every store as Redis does. Two whole numbers are added exactly, within 64
// bits. Other numbers are added as 80-bit floating-point numbers, and the sum is written with up to 17 decimals.
func CheckAddend(text string) error {
	if _, ok := whole(text); ok {
		return nil
	}
	if d, ok := scan(text); ok && d.fits() {
		return nil
	}
	return errAddend
}

// IsWhole reports whether a text is a whole number as Redis writes it: within 64 bits, without a plus sign and leading zeros.
func IsWhole(text string) bool {
	_, ok := whole(text)
	return ok
}

// Add returns the text that a field has after Incr has added the number addend to it. held is the text that the field had
// before: "0" if it was not there. The error says that one of the two is not a number, or that the sum is too large.
func Add(held, addend string) (string, error) {
	a, heldWhole := whole(held)
	b, addendWhole := whole(addend)
	if heldWhole && addendWhole {
		if sum := a + b; (sum > a) == (b > 0) {
			return strconv.FormatInt(sum, 10), nil
		}
		return "", errTooLarge
	}
	y, ok := decimalOf(addend)
	if !ok {
		return "", errAddend
	}
	x, ok := decimalOf(held)
	if !ok {
		return "", errHeld
	}
	if x.Add(x, y); x.MantExp(nil) > mostExponent {
		return "", errTooLarge
	}
	sum := strings.TrimSuffix(strings.TrimRight(x.Text('f', 17), "0"), ".")
	if sum == "-0" {
		return "0", nil
	}
	return sum, nil
}

// whole reads a text as a whole number within 64 bits, as IsWhole describes it. It returns false for any other text.
func whole(text string) (int64, bool) {
	digits := strings.TrimPrefix(text, "-")
	if digits == "" || digits[0] < '0' || digits[0] > '9' || digits[0] == '0' && text != "0" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}

// The range of an 80-bit floating-point number, as powers of two, and its precision in bits.
const (
	mostExponent  = 16384
	leastExponent = -16445
	precision     = 64
)

// most is the limit for the length of a text that is read as a number, in bytes. A longer text counts as no number.
const most = 5*1024 - 1

// decimal is the text of a number in its parts: ±whole.fraction times a power of the base. The base is 10, or 16 with a power of
// 2.
type decimal struct {
	negative        bool
	hex             bool
	whole, fraction string
	exponent        int // limited to ±1<<20: a number beyond that is too large or too small anyway
}

// scan takes the text of a number apart, as C's strtold does, except for infinity and NaN. It returns false if the text is not a
// number.
func scan(text string) (d decimal, ok bool) {
	if text == "" || len(text) > most {
		return d, false
	}
	switch text[0] {
	case '-', '+':
		d.negative = text[0] == '-'
		text = text[1:]
	}
	if len(text) > 2 && text[0] == '0' && text[1]|0x20 == 'x' {
		d.hex, text = true, text[2:]
	}
	d.whole, text = d.digits(text)
	if strings.HasPrefix(text, ".") {
		d.fraction, text = d.digits(text[1:])
	}
	if d.whole == "" && d.fraction == "" {
		return d, false
	}
	if text == "" {
		return d, true
	}
	mark := byte('e')
	if d.hex {
		mark = 'p'
	}
	if text[0]|0x20 != mark {
		return d, false
	}
	d.exponent, ok = exponentOf(text[1:])
	return d, ok
}

// digits cuts the digits off the beginning of a text, in base 16 if d.hex is true, and returns them and the rest.
func (d *decimal) digits(text string) (digits, rest string) {
	n := 0
	for n < len(text) && (text[n] >= '0' && text[n] <= '9' || d.hex && text[n]|0x20 >= 'a' && text[n]|0x20 <= 'f') {
		n++
	}
	return text[:n], text[n:]
}

// exponentOf reads an exponent, and limits it to ±1<<20. It returns false if the text is not a whole number.
func exponentOf(text string) (n int, ok bool) {
	const beyond = 1 << 20
	negative := strings.HasPrefix(text, "-")
	if negative || strings.HasPrefix(text, "+") {
		text = text[1:]
	}
	if text == "" {
		return 0, false
	}
	for _, c := range []byte(text) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = min(10*n+int(c-'0'), beyond)
	}
	if negative {
		n = -n
	}
	return n, true
}

// fits reports whether the number is within the range of an 80-bit floating-point number.
func (d *decimal) fits() bool {
	if lead := d.lead(); !d.hex && lead > -4900 && lead < 4900 {
		return true
	}
	_, ok := d.value()
	return ok
}

// lead returns an exponent that says how large the number is, by its first digit that is not 0: the number is below 10 to this
// power, or, in base 16, below 2 to this power. For example, it is 3 for 123, and -1 for 0.05.
func (d *decimal) lead() int {
	scale := 1
	if d.hex {
		scale = 4
	}
	if digits := strings.TrimLeft(d.whole, "0"); digits != "" {
		return d.exponent + scale*len(digits)
	}
	return d.exponent - scale*(len(d.fraction)-len(strings.TrimLeft(d.fraction, "0")))
}

// value returns the number, rounded once to 64 bits of precision. It returns false if the number is out of range.
func (d *decimal) value() (*big.Float, bool) {
	x := new(big.Float).SetPrec(precision)
	digits := strings.TrimLeft(d.whole+d.fraction, "0")
	if digits == "" {
		return d.signed(x), true
	}
	if lead := d.lead(); lead > 2*mostExponent || lead < 2*leastExponent {
		return nil, false
	}
	if d.hex {
		n, _ := new(big.Int).SetString(digits, 16)
		x.SetInt(n)
		x.SetMantExp(x, d.exponent-4*len(d.fraction))
	} else {
		n, _ := new(big.Int).SetString(digits, 10)
		exponent := d.exponent - len(d.fraction)
		power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
		if exponent >= 0 {
			x.SetInt(n.Mul(n, power))
		} else {
			x.Quo(new(big.Float).SetInt(n), new(big.Float).SetInt(power))
		}
	}
	mantissa := new(big.Float)
	switch exponent := x.MantExp(mantissa); {
	case exponent > mostExponent, exponent < leastExponent:
		return nil, false
	case exponent == leastExponent && mantissa.Cmp(big.NewFloat(0.5)) == 0: // half of the least number: it rounds to 0
		return nil, false
	}
	return d.signed(x), true
}

// signed returns x, which it makes negative if the number is negative.
func (d *decimal) signed(x *big.Float) *big.Float {
	if d.negative {
		x.Neg(x)
	}
	return x
}

// decimalOf reads a text as a number. It returns false if the text is no number, or the number is out of range.
func decimalOf(text string) (*big.Float, bool) {
	d, ok := scan(text)
	if !ok {
		return nil, false
	}
	return d.value()
}
