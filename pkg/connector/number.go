package connector

import (
	"errors"
	"math/big"
	"strconv"
	"strings"
)

// Numbers in a store are texts. Incr adds them as Redis does, in every store: two whole numbers exactly, within 64 bits; all
// others as 80-bit floating-point numbers, whose sum is written with up to 17 decimals.

// Errors of numbers.
var (
	errAddend   = errors.New("what is to be added is not a number: a number can only be added to a number")
	errHeld     = errors.New("the field holds something else than a number: a number can only be added to a number")
	errTooLarge = errors.New("the sum is too large")
)

// CheckAddend says why a text is not a number that Incr can add. Infinity and NaN are none, and neither is what lies outside of
// the range of an 80-bit floating-point number.
func CheckAddend(text string) error {
	if _, ok := whole(text); ok {
		return nil
	}
	if d, ok := scan(text); ok && d.fits() {
		return nil
	}
	return errAddend
}

// IsWhole reports that a text is a whole number as Redis writes one: no plus, no leading zero, within 64 bits.
func IsWhole(text string) bool {
	_, ok := whole(text)
	return ok
}

// Add is the sum that a field has after Incr of addend where it held the text held; "0" for a field that is not there.
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

// most is how long the text of a number may be.
const most = 5*1024 - 1

// decimal is the text of a number in its parts: ±whole.fraction times a power of its base, 10 or 16 (whose exponent is one of 2).
type decimal struct {
	negative        bool
	hex             bool
	whole, fraction string
	exponent        int // bounded: what lies beyond is too large or too small anyway
}

// scan reads the text of a number as strtold does, but for infinity and NaN.
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

func (d *decimal) digits(text string) (digits, rest string) {
	n := 0
	for n < len(text) && (text[n] >= '0' && text[n] <= '9' || d.hex && text[n]|0x20 >= 'a' && text[n]|0x20 <= 'f') {
		n++
	}
	return text[:n], text[n:]
}

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

// fits reports that the number is within the range.
func (d *decimal) fits() bool {
	if lead := d.lead(); !d.hex && lead > -4900 && lead < 4900 {
		return true
	}
	_, ok := d.value()
	return ok
}

// lead is the place of the first digit that is not 0, as an exponent of ten, or of two.
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

// value is the number, rounded once; false: it is out of range.
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
	case exponent == leastExponent && mantissa.Cmp(big.NewFloat(0.5)) == 0: // half of the least one: it rounds to 0
		return nil, false
	}
	return d.signed(x), true
}

func (d *decimal) signed(x *big.Float) *big.Float {
	if d.negative {
		x.Neg(x)
	}
	return x
}

func decimalOf(text string) (*big.Float, bool) {
	d, ok := scan(text)
	if !ok {
		return nil, false
	}
	return d.value()
}
