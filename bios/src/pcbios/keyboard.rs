//! The keyboard: INT 09h (scan codes of set 1, as the 8042 translates them) and INT 16h.

use iced_x86::code_asm::*;

use super::asm::{Emit, Section, code};
use super::frame as f;
use super::layout::bda;

/// What a key puts into the buffer: plain, with Shift, Ctrl, Alt. Zero: nothing.
type Key = [u16; 4];

const ROWS: [(u8, &str, &str); 4] = [
    (0x02, "1234567890-=", "!@#$%^&*()_+"),
    (0x10, "qwertyuiop[]", "QWERTYUIOP{}"),
    (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
    (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
];

/// The keys up to F12.
fn table() -> Vec<Key> {
    let mut keys = vec![[0; 4]; 0x59];
    for (first, plain, shifted) in ROWS {
        for ((scan, plain), shifted) in (first..).zip(plain.bytes()).zip(shifted.bytes()) {
            keys[usize::from(scan)] = printable(scan, plain, shifted);
        }
    }
    let same = |key: u16| [key; 4];
    keys[0x01] = [0x011b, 0x011b, 0x011b, 0x0100];
    keys[0x0e] = [0x0e08, 0x0e08, 0x0e7f, 0x0e00];
    keys[0x0f] = [0x0f09, 0x0f00, 0x9400, 0xa500];
    keys[0x1c] = [0x1c0d, 0x1c0d, 0x1c0a, 0x1c00];
    keys[0x39] = same(0x3920);
    keys[0x37] = [0x372a, 0x372a, 0x9600, 0x3700];
    keys[0x4a] = [0x4a2d, 0x4a2d, 0x8e00, 0x4a00];
    keys[0x4e] = [0x4e2b, 0x4e2b, 0x9000, 0x4e00];
    keys[0x56] = [0x565c, 0x567c, 0, 0];
    for n in 0..10u16 {
        keys[0x3b + usize::from(n)] = [0x3b00, 0x5400, 0x5e00, 0x6800].map(|key| key + (n << 8));
    }
    for n in 0..2u16 {
        keys[0x57 + usize::from(n)] = [0x8500, 0x8700, 0x8900, 0x8b00].map(|key| key + (n << 8));
    }
    // The keypad: cursor keys, digits with Shift, and the codes of Ctrl. Alt makes characters of digits.
    let keypad: [(u8, u8, u16); 11] = [
        (0x47, b'7', 0x7700),
        (0x48, b'8', 0x8d00),
        (0x49, b'9', 0x8400),
        (0x4b, b'4', 0x7300),
        (0x4c, b'5', 0x8f00),
        (0x4d, b'6', 0x7400),
        (0x4f, b'1', 0x7500),
        (0x50, b'2', 0x9100),
        (0x51, b'3', 0x7600),
        (0x52, b'0', 0x9200),
        (0x53, b'.', 0x9300),
    ];
    for (scan, digit, ctrl) in keypad {
        let code = u16::from(scan) << 8;
        keys[usize::from(scan)] = [code, code | u16::from(digit), ctrl, 0];
    }
    keys
}

fn printable(scan: u8, plain: u8, shifted: u8) -> Key {
    let code = u16::from(scan) << 8;
    let ctrl = match plain {
        b'a'..=b'z' => code | u16::from(plain - b'a' + 1),
        b'2' => 0x0300,
        b'6' => 0x071e,
        b'-' => 0x0c1f,
        b'[' => 0x1a1b,
        b']' => 0x1b1d,
        b'\\' => 0x2b1c,
        _ => 0,
    };
    let alt = match scan {
        0x02..=0x0d => u16::from(scan + 0x76) << 8,
        _ => code,
    };
    [code | u16::from(plain), code | u16::from(shifted), ctrl, alt]
}

/// The procedures and the table.
pub fn emit(s: &mut Section) -> Emit {
    initialise(s)?;
    int09(s)?;
    modifiers(s)?;
    translate(s)?;
    buffer(s)?;
    int16(s)?;
    s.proc("key_table")?;
    for key in table() {
        s.words(&key)?;
    }
    Ok(())
}

fn initialise(s: &mut Section) -> Emit {
    code! { s;
        proc "kbc_write_ready"; // waits until the 8042 takes a byte. Destroys nothing
        push ax;
        push cx;
        xor cx, cx;
        label ".next";
        in_ al, 0x64;
        test al, 2;
        jz ".ready";
        dec cx;
        jnz ".next";
        label ".ready";
        pop cx;
        pop ax;
        ret;
        proc "kbc_command"; // AL
        call "kbc_write_ready";
        out 0x64, al;
        ret;
        proc "kbc_data"; // AL
        call "kbc_write_ready";
        out 0x60, al;
        ret;
        proc "kbc_read"; // -> AL; CF = 1: nothing came
        push ecx;
        mov ecx, 0x8000;
        label ".next";
        in_ al, 0x64;
        cmp al, -1;
        je ".none"; // no controller
        test al, 1;
        jnz ".ready";
        dec ecx;
        jnz ".next";
        label ".none";
        pop ecx;
        stc;
        ret;
        label ".ready";
        in_ al, 0x60;
        pop ecx;
        clc;
        ret;
        proc "kbc_flush";
        push cx;
        mov cx, 64;
        label ".next";
        in_ al, 0x64;
        test al, 1;
        jz ".done";
        in_ al, 0x60;
        dec cx;
        jnz ".next";
        label ".done";
        pop cx;
        ret;

        proc "start_keyboard"; // interrupts off
        mov word_ptr(bda::BUFFER_START), bda::KB_BUFFER;
        mov word_ptr(bda::BUFFER_END), bda::KB_BUFFER_END;
        mov word_ptr(bda::BUFFER_HEAD), bda::KB_BUFFER;
        mov word_ptr(bda::BUFFER_TAIL), bda::KB_BUFFER;
        mov byte_ptr(bda::KB_FLAG_3), 0x10;
        in_ al, 0x64;
        cmp al, -1;
        je ".ret";
        mov al, 0xad;
        call "kbc_command";
        mov al, 0xa7;
        call "kbc_command";
        call "kbc_flush";
        mov al, 0xaa; // self test
        call "kbc_command";
        call "kbc_read";
        mov al, 0xae;
        call "kbc_command";
        mov al, 0xff; // keyboard reset
        call "kbc_data";
        call "kbc_read"; // acknowledged
        call "kbc_read"; // self test passed
        mov al, 0xf4; // go
        call "kbc_data";
        call "kbc_read";
        mov al, 0x60; // interrupts 1, translation, mouse off
        call "kbc_command";
        mov al, 0x65;
        call "kbc_data";
        call "kbc_flush";
        label ".ret";
        ret;
    }
    Ok(())
}

fn int09(s: &mut Section) -> Emit {
    f::service(s, "int09", "key_interrupt")?;
    code! { s;
        proc "key_interrupt";
        in_ al, 0x64;
        test al, 1;
        jz ".eoi";
        test al, 0x20; // a byte of the mouse
        jnz ".eoi";
        in_ al, 0x60;
        // Programs may look at the key first (INT 15h AH=4Fh).
        mov ah, 0x4f;
        stc;
        int 0x15;
        jnc ".eoi";
        call "key_code";
        label ".eoi";
        mov al, 0x20;
        out 0x20, al;
        ret;

        proc "key_code"; // AL: scan code
        select al, &[(0xe0, ".e0"), (0xe1, ".e1"), (0xfa, ".ret"), (0xfe, ".ret"), (0x00, ".ret"), (0xff, ".ret")];
        mov bl, byte_ptr(bda::KB_FLAG_3);
        mov dl, al;
        and dl, 0x7f; // DL: key, AL: with bit 7 for release, BL: prefixes
        test bl, 1;
        jnz ".pause";
        call "modifier";
        jc ".done";
        test al, 0x80;
        jnz ".done";
        call "translate_key";
        test ax, ax;
        jz ".done";
        call "put_key";
        label ".done";
        and byte_ptr(bda::KB_FLAG_3), 0xfd;
        label ".ret";
        ret;
        label ".e0";
        or byte_ptr(bda::KB_FLAG_3), 2;
        ret;
        label ".e1";
        or byte_ptr(bda::KB_FLAG_3), 1;
        ret;
        label ".pause"; // E1 1D 45: the 45 ends it
        cmp dl, 0x45;
        jne ".ret";
        and byte_ptr(bda::KB_FLAG_3), 0xfe;
        ret;
    }
    Ok(())
}

fn modifiers(s: &mut Section) -> Emit {
    code! { s;
        // DL: key, AL bit 7: released, BL bit 1: after E0. CF = 1: it was a modifier. Keeps AL, BL, DL
        proc "modifier";
        select dl, &[
            (0x2a, ".left_shift"), (0x36, ".right_shift"), (0x1d, ".ctrl"), (0x38, ".alt"), (0x3a, ".caps"),
            (0x45, ".num"), (0x46, ".scroll"), (0x53, ".delete"), (0x52, ".insert")
        ];
        label ".other";
        clc;
        ret;
        label ".left_shift";
        mov cl, 2;
        jmp ".shift";
        label ".right_shift";
        mov cl, 1;
        label ".shift";
        test bl, 2; // E0 2A: not a key
        jnz ".yes";
        label ".hold"; // CL: bit of KB_FLAG
        test al, 0x80;
        jnz ".let_go";
        or byte_ptr(bda::KB_FLAG), cl;
        stc;
        ret;
        label ".let_go";
        not cl;
        and byte_ptr(bda::KB_FLAG), cl;
        label ".yes";
        stc;
        ret;
        label ".ctrl";
        mov cl, 4;
        mov ch, 1;
        jmp ".sides";
        label ".alt";
        mov cl, 8;
        mov ch, 2;
        label ".sides"; // CH: bit of KB_FLAG_1 for the left key; two places up in KB_FLAG_3 for the right one
        test bl, 2;
        jnz ".right";
        test al, 0x80;
        jnz ".left_up";
        or byte_ptr(bda::KB_FLAG_1), ch;
        jmp ".hold";
        label ".left_up";
        not ch;
        and byte_ptr(bda::KB_FLAG_1), ch;
        jmp ".either";
        label ".right";
        shl ch, 2;
        test al, 0x80;
        jnz ".right_up";
        or byte_ptr(bda::KB_FLAG_3), ch;
        jmp ".hold";
        label ".right_up";
        not ch;
        and byte_ptr(bda::KB_FLAG_3), ch;
        label ".either"; // is the other one still down?
        mov ch, byte_ptr(bda::KB_FLAG_3);
        and ch, 0x0c;
        shr ch, 2;
        or ch, byte_ptr(bda::KB_FLAG_1);
        and ch, 3;
        shl ch, 2;
        test ch, cl;
        jnz ".yes";
        cmp cl, 8;
        jne ".hold";
        // Alt is released: a number typed on the keypad becomes a character.
        cmp byte_ptr(bda::ALT_INPUT), 0;
        je ".hold";
        push ax;
        movzx ax, byte_ptr(bda::ALT_INPUT);
        call "put_key";
        pop ax;
        mov byte_ptr(bda::ALT_INPUT), 0;
        jmp ".hold";
        label ".caps";
        mov cl, 0x40;
        jmp ".toggle";
        label ".num";
        mov cl, 0x20;
        jmp ".toggle";
        label ".scroll";
        test bl, 2; // E0 46: Ctrl-Break
        jnz ".break";
        mov cl, 0x10;
        label ".toggle"; // once for each press: KB_FLAG_1 has the key
        test al, 0x80;
        jnz ".toggle_up";
        test byte_ptr(bda::KB_FLAG_1), cl;
        jnz ".yes";
        or byte_ptr(bda::KB_FLAG_1), cl;
        xor byte_ptr(bda::KB_FLAG), cl;
        stc;
        ret;
        label ".toggle_up";
        not cl;
        and byte_ptr(bda::KB_FLAG_1), cl;
        stc;
        ret;
        label ".break";
        test al, 0x80;
        jnz ".yes";
        mov byte_ptr(0x71), 0x80;
        push ax;
        mov ax, word_ptr(bda::BUFFER_START);
        mov word_ptr(bda::BUFFER_HEAD), ax;
        mov word_ptr(bda::BUFFER_TAIL), ax;
        int 0x1b;
        xor ax, ax;
        call "put_key";
        pop ax;
        stc;
        ret;
        label ".insert";
        test al, 0x80;
        jnz ".other";
        xor byte_ptr(bda::KB_FLAG), 0x80;
        jmp ".other";
        label ".delete"; // with Ctrl and Alt: a warm start
        mov cl, byte_ptr(bda::KB_FLAG);
        and cl, 0x0c;
        cmp cl, 0x0c;
        jne ".other";
        test al, 0x80;
        jnz ".other";
        mov word_ptr(bda::RESET_FLAG), 0x1234;
        jmp "reset";
    }
    Ok(())
}

fn translate(s: &mut Section) -> Emit {
    code! { s;
        proc "translate_key"; // DL: key, BL bit 1: after E0 -> AX: what goes into the buffer, or 0
        cmp dl, 0x58;
        ja ".none";
        movzx si, dl;
        shl si, 3;
        offset di, "key_table";
        add si, di;
        mov ah, byte_ptr(bda::KB_FLAG);
        test ah, 8;
        jnz ".alt";
        test ah, 4;
        jnz ".ctrl";
        // Shift, turned round by Caps Lock for letters and by Num Lock on the keypad.
        mov al, 0;
        test ah, 3;
        jz ".unshifted";
        inc al;
        label ".unshifted";
        mov cx, word_ptr(si).cs();
        cmp dl, 0x47;
        jae ".keypad";
        cmp cl, b'a' as i32;
        jb ".chosen";
        cmp cl, b'z' as i32;
        ja ".chosen";
        test ah, 0x40;
        jz ".chosen";
        xor al, 1;
        jmp ".chosen";
        label ".keypad";
        cmp dl, 0x53;
        ja ".chosen";
        test bl, 2;
        jnz ".grey";
        cmp dl, 0x4a;
        je ".chosen";
        cmp dl, 0x4e;
        je ".chosen";
        test ah, 0x20;
        jz ".chosen";
        xor al, 1;
        label ".chosen";
        movzx bx, al;
        add bx, bx;
        mov ax, word_ptr(bx + si).cs();
        call ".prefix";
        ret;
        label ".prefix"; // E0 1C and E0 35 are Enter and / of the keypad
        cmp dl, 0x1c;
        je ".prefixed";
        cmp dl, 0x35;
        jne ".ret";
        label ".prefixed";
        test byte_ptr(bda::KB_FLAG_3), 2;
        jz ".ret";
        mov ah, 0xe0;
        cmp dl, 0x35;
        jne ".ret";
        mov al, b'/' as i32;
        label ".ret";
        ret;
        label ".grey"; // the cursor keys between the letters and the keypad
        mov ah, dl;
        mov al, 0xe0;
        ret;
        label ".ctrl";
        mov ax, word_ptr(si + 4).cs();
        jmp ".e0_byte";
        label ".alt";
        mov ax, word_ptr(si + 6).cs();
        test ax, ax;
        jnz ".ret";
        test bl, 2;
        jnz ".alt_grey";
        // A digit of the keypad.
        mov cx, word_ptr(si + 2).cs();
        sub cl, b'0' as i32;
        cmp cl, 9;
        ja ".none";
        mov al, 10;
        mul byte_ptr(bda::ALT_INPUT);
        add al, cl;
        mov byte_ptr(bda::ALT_INPUT), al;
        label ".none";
        xor ax, ax;
        ret;
        label ".alt_grey";
        mov ah, dl;
        add ah, 0x50;
        mov al, 0;
        ret;
        label ".e0_byte";
        test bl, 2;
        jz ".ret";
        cmp al, 0;
        jne ".ret";
        mov al, 0xe0;
        ret;
    }
    Ok(())
}

fn buffer(s: &mut Section) -> Emit {
    code! { s;
        proc "put_key"; // AX -> the buffer. CF = 1: it is full. Keeps everything
        push bx;
        push si;
        mov bx, word_ptr(bda::BUFFER_TAIL);
        mov si, bx;
        call "next_place";
        cmp bx, word_ptr(bda::BUFFER_HEAD);
        je ".full";
        mov word_ptr(si), ax;
        mov word_ptr(bda::BUFFER_TAIL), bx;
        clc;
        jmp ".out";
        label ".full";
        stc;
        label ".out";
        pop si;
        pop bx;
        ret;
        proc "next_place"; // BX: a place of the buffer -> the next one
        add bx, 2;
        cmp bx, word_ptr(bda::BUFFER_END);
        jb ".ret";
        mov bx, word_ptr(bda::BUFFER_START);
        label ".ret";
        ret;
    }
    Ok(())
}

fn int16(s: &mut Section) -> Emit {
    f::service(s, "int16", "keyboard_service")?;
    code! { s;
        proc "keyboard_service";
        mov ah, f::ah_();
        select ah, &[
            (0x00, ".read"), (0x01, ".peek"), (0x02, ".shift"), (0x03, ".ok"), (0x05, ".store"), (0x09, ".abilities"),
            (0x10, ".read_extended"), (0x11, ".peek_extended"), (0x12, ".shift_extended")
        ];
        ret;
        label ".ok";
        ret;
        label ".read";
        call "take_key";
        call ".plain";
        jc ".read"; // a key that only the extended functions know
        mov f::ax_(), ax;
        ret;
        label ".read_extended";
        call "take_key";
        call ".extended";
        mov f::ax_(), ax;
        ret;
        label ".peek";
        call "look_key";
        jz ".empty";
        call ".plain";
        jnc ".there";
        call "take_key"; // away with it
        jmp ".peek";
        label ".peek_extended";
        call "look_key";
        jz ".empty";
        call ".extended";
        label ".there";
        mov f::ax_(), ax;
        and f::flags(), -0x41; // ZF = 0
        ret;
        label ".empty";
        or f::flags(), 0x40;
        ret;
        label ".plain"; // AX for programs that know 84 keys; CF = 1: not for them
        cmp al, 0xe0;
        jne ".not_grey";
        test ah, ah;
        jz ".good";
        mov al, 0;
        label ".not_grey";
        cmp ah, 0xe0;
        jne ".code";
        mov ah, 0x1c;
        cmp al, b'/' as i32;
        jne ".good";
        mov ah, 0x35;
        label ".code";
        cmp ah, 0x84;
        jbe ".good";
        cmp ax, 0xe000u32;
        jae ".good";
        stc;
        ret;
        label ".good";
        clc;
        label ".extended"; // everything as it is
        ret;
        label ".shift";
        mov al, byte_ptr(bda::KB_FLAG);
        mov f::al_(), al;
        ret;
        label ".shift_extended";
        mov al, byte_ptr(bda::KB_FLAG);
        mov f::al_(), al;
        mov al, byte_ptr(bda::KB_FLAG_1);
        and al, 0x73;
        mov ah, byte_ptr(bda::KB_FLAG_3);
        and ah, 0x0c;
        or al, ah;
        mov f::ah_(), al;
        ret;
        label ".store";
        mov ax, f::cx_();
        call "put_key";
        setc al;
        mov f::al_(), al;
        ret;
        label ".abilities";
        mov f::al_(), 0x20; // AH=10h-12h are there
        ret;

        proc "look_key"; // -> AX: the next key, ZF = 1: there is none. Interrupts come in between. Destroys BX
        sti;
        call "serial_poll";
        cli;
        mov bx, word_ptr(bda::BUFFER_HEAD);
        mov ax, word_ptr(bx);
        cmp bx, word_ptr(bda::BUFFER_TAIL);
        ret;
        proc "take_key"; // -> AX: the next key, when there is one. Destroys BX
        label ".wait";
        call "look_key";
        jne ".there";
        sti;
        hlt;
        jmp ".wait";
        label ".there";
        call "next_place";
        mov word_ptr(bda::BUFFER_HEAD), bx;
        ret;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_the_codes_that_programs_expect() {
        let keys = table();
        assert_eq!(keys[0x1e], [0x1e61, 0x1e41, 0x1e01, 0x1e00]);
        assert_eq!(keys[0x02], [0x0231, 0x0221, 0, 0x7800]);
        assert_eq!(keys[0x3b], [0x3b00, 0x5400, 0x5e00, 0x6800]);
        assert_eq!(keys[0x58], [0x8600, 0x8800, 0x8a00, 0x8c00]);
        assert_eq!(keys[0x2b][0], 0x2b5c);
        assert_eq!(keys[0x35], [0x352f, 0x353f, 0, 0x3500]);
        assert_eq!(keys[0x29], [0x2960, 0x297e, 0, 0x2900]);
    }
}
