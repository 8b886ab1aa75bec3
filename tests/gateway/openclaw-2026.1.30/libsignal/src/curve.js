const missing = () => {
  throw new Error("libsignal is not installed");
};
export { missing as calculateSignature, missing as generateKeyPair, missing as verifySignature };
