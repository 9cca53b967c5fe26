package batch

import (
	"bytes"
	"math"
	"strconv"
)

// maxWrittenDigits is the largest number of digits that a whole number may have to be written without an exponent in its
// canonical text.
const maxWrittenDigits = 32

// isCanonicalInteger reports whether a JSON number, which is not empty, is a whole number that is its own canonical text.
func isCanonicalInteger(number []byte) bool {
	if number[0] == '-' {
		number = number[1:]
		if len(number) > 0 && number[0] == '0' {
			return false // -0
		}
	}
	if len(number) == 0 || len(number) > maxWrittenDigits || number[0] == '0' && len(number) > 1 {
		return false
	}
	for _, c := range number {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// appendNumber appends the canonical text of a JSON number, which is not empty, to dst. ok is false if number is no JSON
// number. A number whose exponent has 18 digits or more may have the text huge or tiny instead of its digits; all
// spellings of one value still have one text.
func appendNumber(dst, number []byte) (canonical []byte, ok bool) {
	negative := number[0] == '-'
	if negative {
		number = number[1:]
	}
	whole, rest := cutDigits(number)
	if len(whole) == 0 || whole[0] == '0' && len(whole) > 1 {
		return nil, false
	}
	var fraction []byte
	if len(rest) > 0 && rest[0] == '.' {
		if fraction, rest = cutDigits(rest[1:]); len(fraction) == 0 {
			return nil, false
		}
	}
	exponent, ok := parseExponent(rest)
	if !ok {
		return nil, false
	}

	fraction = bytes.TrimRight(fraction, "0")
	exponent -= int64(len(fraction))
	if len(fraction) == 0 {
		trimmed := bytes.TrimRight(whole, "0")
		exponent += int64(len(whole) - len(trimmed))
		whole = trimmed
	}
	if whole = bytes.TrimLeft(whole, "0"); len(whole) == 0 {
		fraction = bytes.TrimLeft(fraction, "0")
	}
	digits := len(whole) + len(fraction)
	if digits == 0 {
		return append(dst, '0'), true
	}

	if negative {
		dst = append(dst, '-')
	}
	if magnitude := exponent + int64(digits); magnitude > maxExponent/2 {
		return append(dst, "huge"...), true
	} else if magnitude < -maxExponent/2 {
		return append(dst, "tiny"...), true
	}
	dst = append(append(dst, whole...), fraction...)
	if exponent >= 0 && exponent+int64(digits) <= maxWrittenDigits {
		return append(dst, "00000000000000000000000000000000"[:exponent]...), true
	}
	return strconv.AppendInt(append(dst, 'e'), exponent, 10), true
}

// maxExponent bounds the exponents that are told apart. A row is so short that its digits move an exponent by far less than
// half of this.
const maxExponent = math.MaxInt64 / 16

// parseExponent reads the text behind a number's digits: nothing, or the letter e and a whole number. The result is kept
// within ±maxExponent. ok is false if the text is something else.
func parseExponent(text []byte) (exponent int64, ok bool) {
	if len(text) == 0 {
		return 0, true
	}
	if text[0] != 'e' && text[0] != 'E' {
		return 0, false
	}
	text = text[1:]
	negative := false
	if len(text) > 0 && (text[0] == '+' || text[0] == '-') {
		negative, text = text[0] == '-', text[1:]
	}
	digits, rest := cutDigits(text)
	if len(digits) == 0 || len(rest) > 0 {
		return 0, false
	}
	for _, c := range digits {
		exponent = min(exponent*10+int64(c-'0'), maxExponent)
	}
	if negative {
		exponent = -exponent
	}
	return exponent, true
}

// cutDigits divides a text into the decimal digits at its beginning and the rest.
func cutDigits(text []byte) (digits, rest []byte) {
	i := 0
	for i < len(text) && '0' <= text[i] && text[i] <= '9' {
		i++
	}
	return text[:i], text[i:]
}
