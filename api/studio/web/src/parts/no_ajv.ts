// Stands for the validator that @rjsf/core's own tests import: the page has another, see form.tsx.
export default null;
