//! What any page should stand, asked in the browser itself.

use serde_json::Value;

use super::Browser;

/// What reaches beyond the window, is clipped, or lies upon another label; nothing, where all can be seen. Folded
/// details are opened first.
///
/// # Panics
/// Where the browser does not tell.
pub fn cut_off(browser: &Browser) -> Vec<String> {
    list(&browser.run(CUT_OFF))
}

/// Text whose contrast with what is behind it is less than 4.5 (WCAG 2.2, 1.4.3), with the contrast.
///
/// # Panics
/// Where the browser does not tell, or the page has no text.
pub fn pale(browser: &Browser) -> Vec<String> {
    let told = browser.run(PALE);
    assert!(
        told["seen"].as_u64() > Some(10),
        "there is no text to look at: {told}"
    );
    list(&told["pale"])
}

fn list(value: &Value) -> Vec<String> {
    let Some(items) = value.as_array() else {
        panic!("the page's answer is no list: {value}");
    };
    items
        .iter()
        .map(|item| item.as_str().unwrap_or_default().to_owned())
        .collect()
}

const CUT_OFF: &str = r#"
const found = [];
const wide = window.innerWidth;
for (const details of document.querySelectorAll('details')) details.open = true;
const root = document.documentElement;
if (root.scrollWidth > wide) found.push(`the page is ${root.scrollWidth} wide, the window ${wide}`);
const name = (element) => `${element.tagName} ${element.className.baseVal ?? element.className} "${(element.textContent || '').slice(0, 40)}"`;
const isForEars = (element) => element.closest('thead') && getComputedStyle(element.closest('thead')).position === 'absolute';
for (const element of document.body.querySelectorAll('*')) {
  if (isForEars(element) || element.closest('svg') && element.tagName !== 'svg') continue;
  const box = element.getBoundingClientRect();
  if (box.width === 0 || box.height === 0) continue;
  if (box.right > wide + 0.5 || box.left < -0.5) found.push(`${name(element)} reaches from ${box.left} to ${box.right} of ${wide}`);
  const style = getComputedStyle(element);
  if (style.overflowX !== 'visible' && element.scrollWidth > element.clientWidth + 1) found.push(`${name(element)} is clipped`);
}
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode;
  if (!text.data.trim() || isForEars(text.parentElement) || text.parentElement.closest('svg')) continue;
  const range = document.createRange();
  range.selectNodeContents(text);
  for (const box of range.getClientRects()) {
    if (box.right > wide + 0.5 || box.left < -0.5) found.push(`the text "${text.data.slice(0, 40)}" reaches from ${box.left} to ${box.right} of ${wide}`);
  }
}
for (const axis of document.querySelectorAll('.x, .y')) {
  const boxes = [...axis.children].map((label) => [label.textContent, label.getBoundingClientRect()]).filter(([, box]) => box.width > 0);
  boxes.forEach(([one, a], nth) => boxes.slice(nth + 1).forEach(([other, b]) => {
    if (a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) found.push(`the labels ${one} and ${other} lie upon each other`);
  }));
}
return found;
"#;

const PALE: &str = r#"
const parse = (text) => {
  const numbers = text.match(/[\d.]+/g).map(Number);
  if (!text.startsWith('rgb')) throw new Error(`what colour is ${text}?`);
  return [numbers[0], numbers[1], numbers[2], numbers.length > 3 ? numbers[3] : 1];
};
const over = (above, below) => [0, 1, 2].map((nth) => above[nth] * above[3] + below[nth] * (1 - above[3])).concat(1);
const behind = (element) => {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    layers.push(parse(getComputedStyle(at).backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reverse().reduce((below, above) => over(above, below), [255, 255, 255, 1]);
};
const light = (colour) => {
  const [r, g, b] = colour.slice(0, 3).map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (one, other) => {
  const [more, less] = [light(one), light(other)].sort((a, b) => b - a);
  return (more + 0.05) / (less + 0.05);
};
let seen = 0;
const pale = [];
const look = (element, style, text) => {
  seen += 1;
  const ground = behind(element);
  const value = contrast(over(parse(style.color), ground), ground);
  if (value < 4.5) pale.push(`${value.toFixed(2)}: "${text.slice(0, 40)}" ${style.color} on ${ground}`);
};
for (const element of document.body.querySelectorAll('*')) {
  if (element.closest('svg') || element.getClientRects().length === 0) continue;
  const text = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE).map((node) => node.data).join('').trim();
  if (text) look(element, getComputedStyle(element), text);
  for (const part of ['::before', '::after']) {
    const style = getComputedStyle(element, part);
    if (style.content !== 'none' && style.content !== 'normal') look(element, style, style.content);
  }
}
return { seen, pale };
"#;
